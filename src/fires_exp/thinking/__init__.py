"""Thoughts: which aspects, in which plan, written by which teacher, kept where."""

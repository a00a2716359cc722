"""Thoughts: their aspects, plans, teachers and files."""

"""Eq. 5: format, reference consistency, support skill, and their total."""

"""Scores: functions from text to a number, used by rewards and by metrics."""

"""Metrics: what a table and a dashboard report about systems and classifiers."""

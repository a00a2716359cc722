"""The panels of `training/loggers/panels.py` as a workspace and a report of Weights & Biases."""

"""Loggers of a stage's steps beside its metrics.jsonl: CSV, TensorBoard, Weights & Biases."""

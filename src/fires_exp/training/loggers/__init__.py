"""Who is told of a stage's steps besides its own metrics.jsonl: CSV, TensorBoard or Weights & Biases."""

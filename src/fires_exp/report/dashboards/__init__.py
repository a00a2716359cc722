"""The panels of `report/panels.py` as a workspace and a report of Weights & Biases, and as TensorBoard's custom scalars."""

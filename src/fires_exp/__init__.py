"""Flexible thinking for multimodal emotional support conversation: data, thoughts, SFT, GRPO, predictions, metrics, report."""

"""The project's own passes over a Qwen2.5-VL: shared prefix, decoding, LoRA, log-probabilities."""

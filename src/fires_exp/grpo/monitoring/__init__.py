"""What a GRPO step logs, and signs of reward hacking."""

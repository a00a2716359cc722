"""What a GRPO step logs, and detection of reward hacking."""

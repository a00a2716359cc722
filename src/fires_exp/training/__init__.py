"""The only Lightning code: SFT, GRPO and their data."""

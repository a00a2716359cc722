"""What a run does, step by step; each step leaves an artifact that other runs reuse."""

"""What a run does, step by step; each step leaves an artefact that other runs reuse."""

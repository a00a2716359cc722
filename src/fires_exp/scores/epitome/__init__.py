"""EPITOME: levels of empathy in a response, read by trained scorers (Sharma et al., 2020)."""

"""Groups of sampled completions."""

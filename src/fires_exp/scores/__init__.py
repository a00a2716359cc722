"""Text in, number out. Rewards and metrics both read them."""

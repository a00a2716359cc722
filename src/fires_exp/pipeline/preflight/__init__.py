"""Before a run starts: its steps, tokens, memory and disk, and whether this machine has enough of them."""

"""What a run will take, told before it starts: steps, tokens, memory and disk, and whether this machine has them."""

"""The policy: a vision-language model with its adapter, and how completions are sampled and scored under it."""

"""Conversations as model inputs: templates, tokens and frames, batches."""

"""The configuration tree: its types (`schema`) and how a composed tree becomes a checked `Config` (`load`).

Nothing in this folder imports torch or transformers, so that composing and printing a configuration takes milliseconds.
"""

"""The configuration: its keys by group (`data`, `model`, `training`, `services`, `baselines`, `scoring`, `root`), the stages of
a recipe (`stages`), and how a composed tree becomes a checked `Config` (`load`).

Nothing in this folder imports torch or transformers, so that composing and printing a configuration takes milliseconds.
"""

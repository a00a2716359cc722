"""What all trained models share: modules with manual optimization, the step loader, checkpoints, strategies, loggers; and SFT.

This folder and `grpo.module` are the only code that uses Lightning.
"""

"""What all trained models share: modules with manual optimization, the step loader, checkpoints, strategies, loggers; and SFT.

Apart from `pipeline.run_folder`, no other folder imports Lightning; `grpo.module` derives from `stepped_module`.
"""

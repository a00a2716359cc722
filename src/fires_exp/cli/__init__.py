"""The command line: one file a command. `main.py` chooses the command, `train.py` is the one without a name."""

"""One file per corpus layout; `registry.py` names the datasets."""

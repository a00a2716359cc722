"""Several processes of one run: collectives and launch."""

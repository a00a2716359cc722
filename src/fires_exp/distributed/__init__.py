"""Distributed training: collectives, ranks, devices and the processes of a run."""

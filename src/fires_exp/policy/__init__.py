"""The model that answers: backbones, adapters, sampling, log-probabilities."""

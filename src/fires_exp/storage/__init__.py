"""Files on disk: atomic writes, hashes, artifacts, models built into the cache, pretrained models."""

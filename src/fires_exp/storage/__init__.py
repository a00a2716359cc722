"""Files: atomic writes and hashes, artifacts, caches."""

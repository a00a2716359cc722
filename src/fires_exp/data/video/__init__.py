"""Videos to frames."""

"""Eq. 1 to 3 as pure functions of tensors."""

"""Systems that the paper compares with and that are trained here: one short file each."""

"""Corpora in, records out: what was said, by whom, in which clip; and the frames of a clip."""

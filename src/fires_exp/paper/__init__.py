"""From the run folders of a sweep to a table of the paper beside its printed cells, with figures and a trail to every number."""

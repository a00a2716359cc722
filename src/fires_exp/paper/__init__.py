"""Reports over the runs of a sweep: the tables and figures of the paper with our numbers and the printed ones, and the source of
every number."""

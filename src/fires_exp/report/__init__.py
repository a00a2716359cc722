"""From a run folder to tables, figures and one page."""

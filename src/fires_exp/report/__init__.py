"""The record, tables, figures and page of a run."""

"""Blind comparison of two systems by human raters (Figure 5, Table 3): a page for raters, and the results of their ratings."""

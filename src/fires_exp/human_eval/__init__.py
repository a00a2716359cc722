"""Blind comparison of two systems by people: a page to send to raters, and their ratings read back (Figure 5, Table 3)."""

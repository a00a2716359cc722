"""Tables for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

Row = Sequence[str]


def text_table(header: Row, rows: Sequence[Row]) -> str:
    """The first column aligned left, the others right, a rule below the header.

    Cells are printed as they are: spaces at the end of a cell count, so that numbers with and without a mark line up.

    >>> print(text_table(["metric", "sft", "grpo"], [["BLEU-2", "1.00 ", "12.50*"]]))
    metric    sft    grpo
    ---------------------
    BLEU-2  1.00   12.50*
    """
    # the header is given as a row because `tabulate` widens the columns of headers
    table = tabulate(
        [header, *rows],
        tablefmt="plain",
        disable_numparse=True,
        preserve_whitespace=True,
        colalign=["left", *["right"] * (len(header) - 1)],
    )
    first, *others = table.splitlines()
    return "\n".join(line.rstrip() for line in (first, "-" * len(first), *others))


def markdown_table(header: Row, rows: Sequence[Row]) -> str:
    """A table as GitHub reads it, aligned likewise. Cells are Markdown already: a `|` in one must be escaped.

    >>> print(markdown_table(["metric", "sft"], [["BLEU-2", "**1.00**"]]))
    | metric | sft |
    | --- | ---: |
    | BLEU-2 | **1.00** |
    """
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

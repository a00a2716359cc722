"""A table as text, Markdown and LaTeX; `below` are sentences after its notes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fires_exp.paper.table import ExperimentTable, ResultCell
from fires_exp.report.text_tables import markdown_table, text_table

MARKS = ("", "†", "‡")
NOTHING = "–"
RANKS_IN_TEXT = {"best": "*", "second": "_", "": ""}

LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "†": r"$^{\dagger}$",
    "‡": r"$^{\ddagger}$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "–": "--",
    "…": r"\ldots{}",
    "β": r"$\beta$",
    "“": "``",
    "”": "''",
}
MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]<>|&#])")


def as_text(table: ExperimentTable, below: Sequence[str]) -> str:
    """Aligned columns; * marks the best and _ the second, the paper's number is in brackets."""

    def cell(result: ResultCell) -> str:
        number = f"{result.text}{MARKS[result.marks]}{RANKS_IN_TEXT[result.rank]}" if result.text else NOTHING
        return " ".join(part for part in (number, result.scatter, f"({result.paper})" if result.paper else "") if part)

    head = ["", *(f"{column.name} {column.arrow}" for column in table.columns)]
    lines = text_table(head, [[row.name, *map(cell, row.cells)] for row in table.rows])
    keys = "*: best of our numbers; _: second; (…): the paper's number."
    return "\n".join([table.title, "", lines, "", *_missing(table), keys, *table.notes, *below]) + "\n"


def as_markdown(table: ExperimentTable, below: Sequence[str]) -> str:
    """GitHub's Markdown; the second is underlined by an `ins` element."""

    def cell(result: ResultCell) -> str:
        wrap = {"best": "**{}**", "second": "<ins>{}</ins>", "": "{}"}[result.rank]
        number = wrap.format(result.text) + MARKS[result.marks] if result.text else NOTHING
        small = " ".join(part for part in (_markdown(result.scatter), result.paper and f"paper {result.paper}") if part)
        return f"{number} <sub>{small}</sub>" if small else number

    header = ["", *(f"{_markdown(column.name)} {column.arrow}" for column in table.columns)]
    cells = markdown_table(header, [[_markdown(row.name), *map(cell, row.cells)] for row in table.rows])
    listed = "\n".join(f"- {_markdown(text)}" for text in (*_missing(table), *table.notes, *below))
    return f"## {_markdown(table.title)}\n\n{cells}\n\n{listed}\n"


def as_latex(table: ExperimentTable, below: Sequence[str]) -> str:
    r"""A `table` environment for \input; it needs \usepackage{booktabs}."""

    def cell(result: ResultCell) -> str:
        wrap = {"best": r"\textbf{%s}", "second": r"\underline{%s}", "": "%s"}[result.rank]
        number = wrap % result.text + _latex(MARKS[result.marks]) if result.text else NOTHING.replace("–", "--")
        parts = [number, rf"{{\scriptsize {_latex(result.scatter)}}}" if result.scatter else ""]
        parts.append(rf"{{\tiny ({_latex(result.paper)})}}" if result.paper else "")
        return " ".join(part for part in parts if part)

    heads = [rf"{_latex(column.name)} {_latex(column.arrow)}" for column in table.columns]
    lines = [rf"{_latex(row.name)} & {' & '.join(map(cell, row.cells))} \\" for row in table.rows]
    caption = " ".join((table.title, *table.notes, *_missing(table), *below))
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}; bold: best of our numbers, underlined: second, in brackets: the paper's",
            r"\begin{table}",
            r"\centering",
            r"\small",
            rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            r"\toprule",
            rf" & {' & '.join(heads)} \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            rf"\caption{{{_latex(caption)}}}",
            rf"\label{{tab:{re.sub('[^a-z0-9]+', '-', table.name.lower())}}}",
            r"\end{table}",
            "",
        ]
    )


def texts_as_latex(lines: Sequence[Sequence[str]]) -> str:
    """A LaTeX table of texts, the header first, aligned right from the second column on."""
    head, *rows = (" & ".join(map(_latex, line)) + r" \\" for line in lines)
    columns = "r" * (len(lines[0]) - 1)
    parts = [r"\begin{table}", r"\centering", r"\small", rf"\begin{{tabular}}{{l{columns}}}", r"\toprule", head, r"\midrule"]
    return "\n".join([*parts, *rows, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _missing(table: ExperimentTable) -> list[str]:
    return [f"{row.name}: {reason}" for row in table.rows for reason in row.missing]


def _latex(text: str) -> str:
    return "".join(LATEX_SPECIAL.get(letter, letter) for letter in text)


def _markdown(text: str) -> str:
    return MARKDOWN_SPECIAL.sub(r"\\\1", " ".join(text.split()))

"""GRPO's sampled completions as tables and distributions for loggers."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fires_exp.config.secrets import without_secrets
from fires_exp.training.loggers.panels import REWARDS, WORDS

Rows = Sequence[Mapping[str, Any]]

_TEXTS = ("prompt", "thought", "response", "reference_response")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|])")  # the characters that TensorBoard's Markdown can escape


def table(rows: Rows, max_rows: int) -> list[dict[str, Any]]:
    """The first `max_rows` of a step's rows of `completions.jsonl` as a table: prompt, thought, response, rewards."""
    return [
        {
            "step": row["step"],
            "example_id": row["example_id"],
            **{name: without_secrets(row[name]) for name in _TEXTS},
            **{name: row[name] for name in row if name == "reward" or name.startswith("reward_")},
            "finish_reason": row["finish_reason"],
        }
        for row in rows[:max_rows]
    ]


def distributions(rows: Rows) -> dict[str, list[float]]:
    """The distributions of a step's rewards and response lengths, by logged name."""
    return {REWARDS.key: [row["reward"] for row in rows], WORDS.key: [float(len(row["response"].split())) for row in rows]}


def as_markdown(rows: Rows) -> str:
    """A Markdown table. Markup in its cells is escaped, so that it is displayed literally.

    >>> as_markdown([{"step": 3, "response": "Don't <b>worry</b> | _now_"}]).splitlines()[-1]
    '|3|Don&#x27;t &lt;b&gt;worry&lt;/b&gt; \\\\| \\\\_now\\\\_|'
    """
    table_rows = [list(rows[0]), ["---" for _ in rows[0]], *([_cell(value) for value in row.values()] for row in rows)]
    return "\n".join(f"|{'|'.join(cells)}|" for cells in table_rows)


def _cell(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return _MARKDOWN.sub(r"\\\1", html.escape(text)).replace("\n", "<br>")

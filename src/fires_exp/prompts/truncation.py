"""Dropping the oldest turns of a history until its prompt fits a limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from fires_exp.data.records import SupportExample
from fires_exp.errors import DataError

Prompt = TypeVar("Prompt")


def fit_history(
    render: Callable[[int], tuple[Prompt, int]], example: SupportExample, *, limit: int, limit_key: str, lower_keys: Sequence[str]
) -> tuple[int, Prompt]:
    """The fewest oldest turns to drop so that a prompt has at most `limit` tokens, and that prompt.

    `render(dropped)` returns the prompt without the `dropped` oldest turns of `example.history`, and its length in tokens.
    Raises `DataError` where even the last turn alone is too long. The error names `limit_key`, the configuration key of the
    limit, and `lower_keys`, those whose smaller values shorten the prompt.
    """
    fitted: tuple[int, Prompt] | None = None
    length = 0
    # Mostly the whole history fits. If not, bisect: fewer turns make a shorter prompt, and a history may have a thousand.
    low, high, dropped = 0, len(example.history), 0
    while low < high:
        prompt, length = render(dropped)
        if length <= limit:
            fitted, high = (dropped, prompt), dropped
        else:
            low = dropped + 1
        dropped = (low + high) // 2
    if fitted is None:
        lower = f", or lower {' or '.join(lower_keys)}" if lower_keys else ""
        raise DataError(
            f"{example.source or example.id}: with the last turn of {example.id} alone, the prompt has {length} tokens, more "
            f"than {limit_key}={limit}; raise it{lower}"
        )
    return fitted

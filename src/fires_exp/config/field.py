"""How a configuration key is declared: its meaning and the values that it may have, without a default.

A group of keys is a dataclass below `Group` whose fields are `setting(…)`. `constraints.check` walks the finished tree, so an
error names the full dotted key, and a group that is built by hand in a test is not checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """The declaration of one key: its line in `docs/config.md` and its constraints. A bound that is None does not apply; `hint`
    ends an error with what to write instead; the value of a key with `secret` appears in no message."""

    meaning: str
    ge: float | None
    gt: float | None
    le: float | None
    lt: float | None
    pattern: str | None
    hint: str | None
    secret: bool


def setting(
    meaning: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    pattern: str | None = None,
    hint: str | None = None,
    secret: bool = False,
) -> Any:
    """A field without a default: numbers must lie within the bounds, text must match the whole `pattern`.

    >>> rank: int = setting("LoRA rank", ge=1)
    """
    declaration = Setting(meaning=meaning, ge=ge, gt=gt, le=le, lt=lt, pattern=pattern, hint=hint, secret=secret)
    return field(metadata={"setting": declaration})


class Group:
    """Base of every group of keys."""

    def problems(self, key: str) -> Iterator[str]:
        """Contradictions between the keys of this group, one line each; `key` is the dotted key of the group, "" for the root."""
        yield from ()

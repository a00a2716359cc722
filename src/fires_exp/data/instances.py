"""The instances of one split of one dataset, as a stage reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fires_exp.data.dataset import content_hash
from fires_exp.data.records import SupportExample


@dataclass(frozen=True, kw_only=True)
class Instances:
    """`examples` are in the order of the corpus; `dataset` is the dataset's name. Without a `video_root` there is text only.

    >>> instances = Instances(dataset="mesc", split="test", examples=(), video_root=None)
    >>> len(instances), instances.identity(with_frames=True)[:8]
    (0, 'e3b0c442')
    """

    dataset: str
    split: str
    examples: tuple[SupportExample, ...]
    video_root: Path | None
    _identities: dict[bool, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.examples)

    def identity(self, with_frames: bool) -> str:
        """`content_hash` of the examples, with the identities of their videos or without. Computed once for each of the two."""
        if with_frames not in self._identities:
            self._identities[with_frames] = content_hash(self.examples, self.video_root if with_frames else None)
        return self._identities[with_frames]

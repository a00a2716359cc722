"""The numbers that describe a dataset: counts, lengths, labels and videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import fmean, median

from fires_exp.data.dataset import Dataset
from fires_exp.data.records import SupportExample, Utterance
from fires_exp.data.video.paths import history_videos, video_identity, video_path

_NAMED_FILES = 10


def describe_dataset(dataset: Dataset) -> dict[str, object]:
    """Counts over all splits together, ready for json. Only the conversations and turns that some instance shows are counted.

    A label counts once per instance; `videos` is None for a dataset without a video root.
    """
    examples = [example for split in dataset.examples.values() for example in split]
    longest: dict[str, SupportExample] = {}
    for example in examples:
        conversation = _conversation_id(example)
        if conversation not in longest or len(example.history) >= len(longest[conversation].history):
            longest[conversation] = example
    turns = [turn for example in longest.values() for turn in example.history]
    targets = [example.target for example in examples]
    last_seekers = [turn for turn in map(_last_seeker_turn, examples) if turn is not None]
    return {
        "name": dataset.name,
        "instances": {split: len(split_examples) for split, split_examples in dataset.examples.items()},
        "instances_with_notes": sum(bool(example.notes) for example in examples),
        "conversations": len(longest),
        "turns_a_history": _spread([len(example.history) for example in examples]),
        "words_a_response": _spread([len(target.text.split()) for target in targets]),
        "emotions": {
            "targets": _counts(label for turn in targets for label in turn.emotions),
            "last_seeker_turns": _counts(label for turn in last_seekers for label in turn.emotions),
        },
        "strategies": {
            "targets": _counts(label for turn in targets for label in turn.strategies),
            "last_seeker_turns": _counts(label for turn in last_seekers for label in turn.strategies),
        },
        "turns": len(turns),
        "turns_with_clips": sum(turn.clip is not None for turn in turns),
        "videos": _videos(dataset, examples),
        "bad_rows": len(dataset.bad_rows),
    }


def _conversation_id(example: SupportExample) -> str:
    """An instance's id is its conversation's id and the index of its target."""
    return example.id.rpartition("-")[0]


def _last_seeker_turn(example: SupportExample) -> Utterance | None:
    return next((turn for turn in reversed(example.history) if turn.speaker == "seeker"), None)


def _spread(numbers: list[int]) -> dict[str, float]:
    if not numbers:
        return {"mean": 0, "median": 0, "max": 0}
    return {"mean": round(fmean(numbers), 2), "median": median(numbers), "max": max(numbers)}


def _counts(labels: Iterable[str]) -> dict[str, int]:
    """Most frequent first, ties by name."""
    return dict(sorted(Counter(labels).items(), key=lambda item: (-item[1], item[0])))


def _videos(dataset: Dataset, examples: list[SupportExample]) -> dict[str, object] | None:
    if dataset.video_root is None:
        return None
    names = history_videos(examples)
    missing = [name for name in names if video_identity(video_path(dataset.video_root, name)) is None]
    return {"files": len(names), "missing": len(missing), "first_missing": missing[:_NAMED_FILES]}

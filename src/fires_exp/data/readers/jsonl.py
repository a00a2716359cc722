"""Your own conversations as JSON Lines: one conversation per line, in one `.jsonl` file or a folder of them.

    {"id": "talk-7", "split": "train", "turns": [
        {"speaker": "seeker", "text": "I failed the exam.", "emotions": ["sadness"],
         "video": "talk-7.mp4", "start_seconds": 0.0, "end_seconds": 2.5},
        {"speaker": "supporter", "text": "What happened?", "strategies": ["open question"],
         "thought": {"emotion": "sad and ashamed", "response_strategy": "I should ask."}}]}

Each conversation is on a single line of the file.

- conversation: `id` (unique over all files), `split` (train, val or test), `turns` (at least one). All required.
- turn: `speaker` (seeker or supporter) and `text` are required. `emotions` and `strategies` are lists of labels. `video` (a path
  relative to dataset.video_root) needs `start_seconds` and `end_seconds`, the turn's span in it.
- `thought`, on a supporter turn only, is the corpus's own thought before it: any of `visual_scene`, `emotion`, `situation` and
  `response_strategy`, each of them a text.

Other keys are errors. Consecutive turns of one speaker are merged into one; a thought belongs to the first of them. An invalid
line is a bad row: dataset.on_bad_row=skip leaves its whole conversation out.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from fires_exp.data.readers.interface import ReadRequest, cached_examples
from fires_exp.data.readers.row_errors import RowError, RowProblems, quoted
from fires_exp.data.readers.utterances import NOTE_ASPECTS, SpokenLine, clean_labels, clean_text, merge_turns
from fires_exp.data.records import SPLITS, Conversation, Role, SupportExample
from fires_exp.errors import DataError

_ROLES: Mapping[str, Role] = {"seeker": "seeker", "supporter": "supporter"}
_CONVERSATION_KEYS = ("id", "split", "turns")
_SPAN_KEYS = ("video", "start_seconds", "end_seconds")
_TURN_KEYS = ("speaker", "text", "emotions", "strategies", *_SPAN_KEYS, "thought")
_MAX_SECONDS = 1e6


def read_jsonl_dataset(request: ReadRequest) -> tuple[SupportExample, ...]:
    """The instances of `dataset=jsonl`."""
    root = request.file_or_folder()
    return cached_examples(request, [request.dataset], jsonl_files(root), lambda: read_jsonl(root, problems=request.problems))


def read_jsonl(root: Path, *, problems: RowProblems) -> tuple[Conversation, ...]:
    """The conversations, sorted by file name, then in the order of the lines. Raises `DataError` if there is no file."""
    files = jsonl_files(root)
    if not files:
        raise DataError(f"dataset.root={root} has no .jsonl file; add one, or write dataset.root=<.jsonl file or folder of them>")
    conversations: dict[str, Conversation] = {}
    for file in files:
        for number, line in enumerate(_read_lines(file), start=1):
            if not line.strip():
                continue
            with problems.at(file.name, number):
                conversation = _conversation(_parse_line(line), row=number, source=f"{file.name}:{number}")
                if conversation.id in conversations:
                    raise RowError(f"id {quoted(conversation.id)} is already in {conversations[conversation.id].source}")
                conversations[conversation.id] = conversation
    return tuple(conversations.values())


def jsonl_files(root: Path) -> list[Path]:
    return sorted(root.glob("*.jsonl")) if root.is_dir() else [root]


def _read_lines(file: Path) -> list[bytes]:
    try:
        return file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise DataError(f"cannot read {file} ({error.strerror}); write dataset.root=<.jsonl file or folder of them>") from None


def _parse_line(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise RowError("is not UTF-8", "save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise RowError(f"is not json ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise RowError(f"is not json ({error})") from None


def _conversation(value: object, *, row: int, source: str) -> Conversation:
    fields = _fields(value, "the conversation", required=_CONVERSATION_KEYS, known=_CONVERSATION_KEYS)
    identifier = _text(fields["id"], "id")
    if not identifier.isprintable():
        raise RowError(f"id {quoted(identifier)} has non-printable characters")
    split = next((split for split in SPLITS if split == fields["split"]), None)
    if split is None:
        raise RowError(f"split {quoted(fields['split'])} is not one of {', '.join(SPLITS)}")
    turn_values = list(fields["turns"]) if isinstance(fields["turns"], list) else []
    if not turn_values:
        raise RowError(f"turns is {quoted(fields['turns'])}", "write a list of turns")
    lines = [_spoken_line(turn, number=number, row=row) for number, turn in enumerate(turn_values, start=1)]
    thoughts = dict(_thoughts(turn_values))
    turns = merge_turns(lines)
    notes = {index: thoughts.pop(turn.lines[0].number, {}) for index, turn in enumerate(turns)}
    if thoughts:
        raise RowError(
            f"turn {min(thoughts)} has a thought but continues the turn before it",
            "move it to the speaker's first turn",
        )
    return Conversation(
        id=identifier,
        split=split,
        turns=tuple(turn.as_utterance(_ROLES[turn.speaker]) for turn in turns),
        notes={index: note for index, note in notes.items() if note},
        source=source,
    )


def _spoken_line(value: object, *, number: int, row: int) -> SpokenLine:
    where = f"turn {number}"
    fields = _fields(value, where, required=("speaker", "text"), known=_TURN_KEYS)
    if fields["speaker"] not in tuple(_ROLES):
        raise RowError(f"{where}: speaker {quoted(fields['speaker'])} is neither {' nor '.join(_ROLES)}")
    span_keys = [key for key in _SPAN_KEYS if fields.get(key) is not None]
    if span_keys and len(span_keys) < len(_SPAN_KEYS):
        raise RowError(f"{where} has only {' and '.join(span_keys)}", f"write all of {', '.join(_SPAN_KEYS)}, or none")
    video = start = end = None
    if span_keys:
        video = _text(fields["video"], f"{where}: video")
        start, end = (_seconds(fields[key], f"{where}: {key}") for key in ("start_seconds", "end_seconds"))
        if end <= start:
            raise RowError(f"{where}: end_seconds {end} is not after start_seconds {start}")
    return SpokenLine(
        speaker=str(fields["speaker"]),
        text=_clean_nonempty(fields["text"], f"{where}: text"),
        emotions=_labels(fields.get("emotions"), f"{where}: emotions"),
        strategies=_labels(fields.get("strategies"), f"{where}: strategies"),
        video=video,
        start_seconds=start,
        end_seconds=end,
        number=number,
        row=row,
    )


def _thoughts(turns: list[Mapping[str, object]]) -> Iterator[tuple[int, dict[str, str]]]:
    for number, turn in enumerate(turns, start=1):
        if turn.get("thought") is None:
            continue
        where = f"thought of turn {number}"
        if turn["speaker"] != "supporter":
            raise RowError(f"turn {number} has a thought but its speaker is the seeker", "write thoughts on supporter turns only")
        thought = _fields(turn["thought"], where, required=(), known=NOTE_ASPECTS)
        aspects = [aspect for aspect in NOTE_ASPECTS if aspect in thought]
        yield number, {aspect: _clean_nonempty(thought[aspect], f"{where}: {aspect}") for aspect in aspects}


def _fields(value: object, where: str, *, required: Collection[str], known: Collection[str]) -> dict[str, object]:
    if not isinstance(value, dict):
        raise RowError(f"{where} is {quoted(value)}", f"write an object with {', '.join(required or known)}")
    missing = [key for key in required if key not in value]
    if missing:
        raise RowError(f"{where} has no {', '.join(missing)}")
    unknown = [key for key in value if key not in known]
    if unknown:
        raise RowError(
            f"{where} has unknown key {', '.join(map(quoted, unknown))}", f"remove it; the keys are {', '.join(known)}"
        )
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise RowError(f"{where} {quoted(value)} is not a nonempty text")
    return value


def _clean_nonempty(value: object, where: str) -> str:
    return _text(clean_text(_text(value, where)), where)


def _labels(value: object, where: str) -> tuple[str, ...]:
    if value is not None and not isinstance(value, list):
        raise RowError(f"{where} {quoted(value)} is not a list of texts")
    return clean_labels(_text(label, where) for label in value or ())


def _seconds(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_SECONDS:
        raise RowError(f"{where} {quoted(value)} is not a number of seconds of at least 0")
    return float(value)

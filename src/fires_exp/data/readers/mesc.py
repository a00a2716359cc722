"""MESC: therapy dialogues with emotion, strategy and subtitle times (Chu et al., arXiv 2408.03650).

A folder holds `MESC.csv`, `split_ids.json` (lists of Dialogue_IDs under `train`, `val` and `test`) and, if the corpus has
thoughts of its own, `notes.csv`: a row of notes belongs to the Therapist turn that begins with its utterance. Consecutive
utterances of a speaker are one turn, which gives the paper's 3,721 / 445 / 454 instances.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from fires_exp.data.readers.csv_rows import CsvRow, read_csv
from fires_exp.data.readers.interface import ReadRequest, cached_examples
from fires_exp.data.readers.row_errors import RowError, RowProblems, quoted
from fires_exp.data.readers.utterances import NOTE_ASPECTS, SpokenLine, Turn, clean_labels, clean_text, merge_turns
from fires_exp.data.records import SPLITS, Conversation, Role, Split, SupportExample
from fires_exp.data.video.paths import episode_name
from fires_exp.errors import DataError

TEXT_FILE = "MESC.csv"
SPLIT_FILE = "split_ids.json"
NOTES_FILE = "notes.csv"

_ID_COLUMNS = ("Dialogue_ID", "Utterance_ID")
_TEXT_COLUMNS = ("Utterance", "Speaker", "Emotion", "Strategy", *_ID_COLUMNS, "Season", "Episode", "StartTime", "EndTime")
_ROLES: Mapping[str, Role] = {"Client": "seeker", "Therapist": "supporter"}

NotesByTurn = dict[int, dict[str, str]]


def read_mesc_dataset(request: ReadRequest) -> tuple[SupportExample, ...]:
    """The instances of `dataset=mesc`."""
    root, corpus, video_pattern = request.folder(), request.dataset, request.video_pattern
    return cached_examples(
        request,
        [corpus, video_pattern],
        mesc_tables(root),
        lambda: read_mesc(root, corpus=corpus, video_pattern=video_pattern, problems=request.problems),
    )


def read_mesc(root: Path, *, corpus: str, video_pattern: str, problems: RowProblems) -> tuple[Conversation, ...]:
    """The conversations in the order of the file; `corpus` is the first part of their ids.

    Raises `DataError` for a missing file or column, and for splits that contradict the text.
    """
    splits = _read_splits(root / SPLIT_FILE)
    dialogues = _read_dialogues(root / TEXT_FILE, splits, video_pattern, problems)
    turns = {dialogue: merge_turns([lines[number] for number in sorted(lines)]) for dialogue, lines in dialogues.items()}
    del dialogues
    notes = _read_notes(root / NOTES_FILE, turns, problems) if (root / NOTES_FILE).exists() else {}
    return tuple(
        Conversation(
            id=f"{corpus}-{dialogue}",
            split=splits[dialogue],
            turns=tuple(turn.as_utterance(_ROLES[turn.speaker]) for turn in merged),
            notes=notes.get(dialogue, {}),
            source=f"{TEXT_FILE}:{min(merged[0].rows)}-{max(merged[-1].rows)}",
        )
        for dialogue, merged in _pop_each(turns)
    )


def mesc_tables(root: Path) -> list[Path]:
    """The files that `read_mesc` reads."""
    notes = root / NOTES_FILE
    return [root / TEXT_FILE, root / SPLIT_FILE, *([notes] if notes.exists() else [])]


def _pop_each(turns: dict[int, tuple[Turn, ...]]) -> Iterator[tuple[int, tuple[Turn, ...]]]:
    """Each dialogue with its turns, removed from `turns`: lines and the utterances made of them would take memory twice."""
    for dialogue in list(turns):
        yield dialogue, turns.pop(dialogue)


def _read_splits(path: Path) -> dict[int, Split]:
    """The split of every Dialogue_ID."""
    layout = '{"train": [ids], "val": [ids], "test": [ids]}'
    try:
        ids_by_split = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"file {path} is missing; add it as {layout}, or set dataset.root to the folder that has it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path.name} cannot be read as json ({error}); write {layout}") from None
    if not isinstance(ids_by_split, dict):
        raise DataError(f"{path.name} holds {quoted(ids_by_split)}; write {layout}")
    if not set(ids_by_split) <= set(SPLITS):
        raise DataError(f"{path.name} holds splits {', '.join(map(quoted, ids_by_split))}; write {layout}")
    splits: dict[int, Split] = {}
    for split in SPLITS:
        ids = ids_by_split.get(split, [])
        if not isinstance(ids, list):
            raise DataError(f"{path.name}: {split} is {quoted(ids)}; write {layout}")
        for dialogue in ids:
            if type(dialogue) is not int:
                raise DataError(f"{path.name}: {split} has {quoted(dialogue)}, which is not a Dialogue_ID; write {layout}")
            if dialogue in splits:
                raise DataError(f"{path.name}: Dialogue_ID {dialogue} is in {splits[dialogue]} and in {split}; remove one")
            splits[dialogue] = split
    return splits


def _read_dialogues(
    path: Path, splits: Mapping[int, Split], video_pattern: str, problems: RowProblems
) -> dict[int, dict[int, SpokenLine]]:
    """The lines of the text file, by Dialogue_ID and Utterance_ID."""
    dialogues: dict[int, dict[int, SpokenLine]] = {}
    dialogues_in_file: set[int] = set()
    for row in read_csv(path, _TEXT_COLUMNS, problems):
        try:
            dialogue = row.number("Dialogue_ID")
            dialogues_in_file.add(dialogue)
            if dialogue not in splits:
                raise RowError(f"Dialogue_ID {dialogue} is in no split", f"add it to {SPLIT_FILE}")
            line = _spoken_line(row, video_pattern)
            lines = dialogues.get(dialogue)
            if lines is None:
                lines = dialogues[dialogue] = {}
            if line.number in lines:
                earlier = lines[line.number].row
                raise RowError(f"Utterance_ID {line.number} of Dialogue_ID {dialogue} is already in line {earlier}")
            lines[line.number] = line
        except RowError as error:
            problems.add(row.file, row.line, error)
    without_text = sorted(set(splits) - dialogues_in_file)
    if without_text:
        ids = ", ".join(map(str, without_text[:5])) + (", …" if len(without_text) > 5 else "")
        raise DataError(f"{path.name} has no row for Dialogue_ID {ids} of {SPLIT_FILE}; check that {path.name} is complete")
    return dialogues


def _spoken_line(row: CsvRow, video_pattern: str) -> SpokenLine:
    speaker = row.cells["Speaker"].strip()
    if speaker not in _ROLES:
        raise RowError(f"Speaker {quoted(speaker)} is neither {' nor '.join(_ROLES)}")
    return SpokenLine(
        speaker=speaker,
        text=row.text("Utterance"),
        emotions=clean_labels([row.cells["Emotion"]]),
        strategies=clean_labels([row.cells["Strategy"]]),
        video=episode_name(video_pattern, row.number("Season"), row.number("Episode")),
        start_seconds=row.seconds("StartTime"),
        end_seconds=row.seconds("EndTime"),
        number=row.number("Utterance_ID"),
        row=row.line,
    )


def _read_notes(path: Path, turns: Mapping[int, tuple[Turn, ...]], problems: RowProblems) -> dict[int, NotesByTurn]:
    """Notes by Dialogue_ID and turn index; empty cells are left out."""
    turn_index = {
        (dialogue, turn.lines[0].number): index
        for dialogue, merged in turns.items()
        for index, turn in enumerate(merged)
        if _ROLES[turn.speaker] == "supporter"
    }
    notes: dict[int, NotesByTurn] = {}
    for row in read_csv(path, (*_ID_COLUMNS, *NOTE_ASPECTS), problems):
        with problems.at(row.file, row.line):
            dialogue, number = row.number("Dialogue_ID"), row.number("Utterance_ID")
            index = turn_index.get((dialogue, number))
            if index is None:
                raise RowError(f"no Therapist turn begins at Utterance_ID {number} of Dialogue_ID {dialogue}")
            if index in notes.setdefault(dialogue, {}):
                raise RowError(f"Utterance_ID {number} of Dialogue_ID {dialogue} already has notes", "keep one row")
            aspects = {aspect: clean_text(row.cells[aspect]) for aspect in NOTE_ASPECTS}
            notes[dialogue][index] = {aspect: text for aspect, text in aspects.items() if text}
    return notes

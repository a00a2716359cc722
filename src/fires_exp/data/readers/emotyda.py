"""EMOTyDA-ESC, our own subset: 304 test instances from the MELD half of EMOTyDA, which has no supporter and no split.

Public sources do not determine the paper's 310 instances. Ours: dialogues with a Dialogue_ID of 831 or more (the last fifth)
and exactly two speakers; the target is a turn that has an earlier turn, and none of its utterances is negative in MELD or a
backchannel or greeting in EMOTyDA. The target's speaker is the supporter, so that roles differ between instances.

The text of `EMOTyDA_MELD.csv` is damaged; MELD's own file has the same utterances intact. The Dialogue Act only selects
instances; it is not a label and reaches no prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fires_exp.data.readers.csv_rows import CsvRow, read_csv
from fires_exp.data.readers.interface import ReadRequest
from fires_exp.data.readers.row_errors import RowError, RowProblems
from fires_exp.data.readers.utterances import SpokenLine, Turn, clean_labels, merge_turns
from fires_exp.data.records import SupportExample
from fires_exp.data.video.paths import episode_name

LABEL_FILE = "EMOTyDA_MELD.csv"
TEXT_FILE = "MELD_train_sent_emo.csv.gz"

_ID_COLUMNS = ("Dialogue_ID", "Utterance_ID")
_LABEL_COLUMNS = ("Speaker", "Emotion", *_ID_COLUMNS, "Season", "Episode", "StartTime", "EndTime", "Dialogue Act")
_TEXT_COLUMNS = ("Utterance", "Sentiment", *_ID_COLUMNS)

_FIRST_DIALOGUE = 831
_SPEAKERS = 2
_UNSUPPORTIVE_SENTIMENT = "negative"
_UNSUPPORTIVE_ACTS = ("b", "g")

UtteranceKey = tuple[int, int]


def read_emotyda_dataset(request: ReadRequest) -> tuple[SupportExample, ...]:
    """The instances of `dataset=emotyda_esc`."""
    return read_emotyda_esc(request.folder(), video_pattern=request.video_pattern, problems=request.problems)


def read_emotyda_esc(root: Path, *, video_pattern: str, problems: RowProblems) -> tuple[SupportExample, ...]:
    """The instances in the order of the file, all of them in split `test`. Raises `DataError` for a missing file or column."""
    text_rows = _rows_by_key(root / TEXT_FILE, _TEXT_COLUMNS, problems)
    dialogues: dict[int, dict[int, SpokenLine]] = {}
    unsupportive: set[UtteranceKey] = set()
    for key, row in _rows_by_key(root / LABEL_FILE, _LABEL_COLUMNS, problems).items():
        with problems.at(row.file, row.line):
            if key not in text_rows:
                raise RowError(f"Utterance_ID {key[1]} of Dialogue_ID {key[0]} is not in {TEXT_FILE}")
            dialogues.setdefault(key[0], {})[key[1]] = _spoken_line(row, text_rows[key], video_pattern)
            sentiment, act = text_rows[key].cells["Sentiment"].strip(), row.cells["Dialogue Act"].strip()
            if sentiment == _UNSUPPORTIVE_SENTIMENT or act in _UNSUPPORTIVE_ACTS:
                unsupportive.add(key)
    return tuple(
        example
        for dialogue, lines in dialogues.items()
        for example in _examples(dialogue, merge_turns([lines[number] for number in sorted(lines)]), unsupportive)
    )


def _rows_by_key(path: Path, columns: tuple[str, ...], problems: RowProblems) -> dict[UtteranceKey, CsvRow]:
    """The rows of the subset's dialogues; the other rows of the file are skipped."""
    rows: dict[UtteranceKey, CsvRow] = {}
    for row in read_csv(path, columns, problems):
        with problems.at(row.file, row.line):
            key = (row.number("Dialogue_ID"), row.number("Utterance_ID"))
            if key[0] < _FIRST_DIALOGUE:
                continue
            if key in rows:
                raise RowError(f"Utterance_ID {key[1]} of Dialogue_ID {key[0]} is already in line {rows[key].line}")
            rows[key] = row
    return rows


def _spoken_line(row: CsvRow, text_row: CsvRow, video_pattern: str) -> SpokenLine:
    return SpokenLine(
        speaker=row.text("Speaker"),
        text=text_row.text("Utterance"),
        emotions=clean_labels([row.cells["Emotion"]]),
        strategies=(),
        video=episode_name(video_pattern, row.number("Season"), row.number("Episode")),
        start_seconds=row.seconds("StartTime"),
        end_seconds=row.seconds("EndTime"),
        number=row.number("Utterance_ID"),
        row=row.line,
    )


def _examples(dialogue: int, turns: tuple[Turn, ...], unsupportive: set[UtteranceKey]) -> Iterator[SupportExample]:
    if len({turn.speaker for turn in turns}) != _SPEAKERS:
        return
    for index, target in enumerate(turns):
        if index == 0 or any((dialogue, line.number) in unsupportive for line in target.lines):
            continue
        yield SupportExample(
            id=f"emotyda-{dialogue}-{index}",
            split="test",
            history=tuple(
                turn.as_utterance("supporter" if turn.speaker == target.speaker else "seeker") for turn in turns[:index]
            ),
            target=target.as_utterance("supporter"),
            source=f"{LABEL_FILE}:{min(turns[0].rows)}-{max(target.rows)}",
        )

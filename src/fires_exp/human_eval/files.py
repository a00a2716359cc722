"""The files of a study: the page and the key that `make` writes, and the raters' ratings. A bad file is one line of error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fires_exp.errors import StudyError
from fires_exp.human_eval.form import render_form
from fires_exp.human_eval.study import POSITIONS, QUESTIONS, VERDICTS, Key, KeyItem, Study, Verdict
from fires_exp.storage.json_input import parse_json

PAGE = "rate.html"
KEY = "key.json"
KEY_FORMAT = "human-eval key 1"
RATINGS_FORMAT = "human-eval ratings 1"
KNOWN_QUESTIONS = frozenset(question.name for question in QUESTIONS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratings:
    """A rater's verdicts by item and question; unrated ones are missing."""

    rater: str
    verdicts: Mapping[tuple[str, str], Verdict]


def write_study(folder: Path, study: Study, key: Key) -> None:
    """Write both files. Raises `StudyError` for a folder with the key of another study: it is needed to read that study's
    ratings."""
    path = folder / KEY
    if path.is_file() and (other := read_key(path).study) != study.id:
        raise StudyError(f"{path} is the key of study {other}, whose ratings need it; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": KEY_FORMAT, **asdict(key)}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / PAGE).write_text(render_form(study), encoding="utf-8")


def read_key(path: Path) -> Key:
    facts = _object(path, KEY_FORMAT, "name the key.json that `fires-exp human-eval make` wrote next to the page")
    try:
        items = {name: KeyItem(**item) for name, item in facts.pop("items").items()}
        del facts["format"]
        key = Key(**{**facts, "items": items, "questions": tuple(facts["questions"])})
        sound = (
            isinstance(key.study, str)
            and all(isinstance(names, dict) and set(names) == set(POSITIONS) for names in (key.systems, key.files))
            and all(isinstance(name, str) for name in key.systems.values())
            and set(key.questions) <= KNOWN_QUESTIONS
            and all(item.side_a in POSITIONS for item in items.values())
        )
    except (KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise StudyError(f"{path}: the key is incomplete; delete it, and make the study again with the same files and seed")
    return key


def read_ratings(path: Path, key: Key) -> Ratings:
    """A rater's file. Raises `StudyError` where anything in it does not belong to the key's study."""
    facts = _object(path, RATINGS_FORMAT, "ask the rater to export once more")
    if facts.get("study") != key.study:
        raise StudyError(f"{path} is of study {facts.get('study')}, and the key of {key.study}; name the key of the same study")
    rater, ratings = facts.get("rater"), facts.get("ratings")
    if not isinstance(rater, str) or not rater.strip():
        raise StudyError(f"{path} has no rater; write the name of who rated into it")
    if not isinstance(ratings, dict) or not all(isinstance(answers, dict) for answers in ratings.values()):
        raise StudyError(f'{path}: "ratings" is no list of instances with their answers; ask the rater to export once more')
    verdicts: dict[tuple[str, str], Verdict] = {}
    for item, answers in ratings.items():
        if item not in key.items:
            raise StudyError(f"{path}: {item} is not an instance of study {key.study}; ask the rater to export once more")
        for question, verdict in answers.items():
            if question not in key.questions:
                raise StudyError(f"{path}: {item}: {question} is no question of this study; write {', '.join(key.questions)}")
            if verdict not in VERDICTS:
                raise StudyError(f"{path}: {item}: {question} is {verdict!r}; write one of {', '.join(VERDICTS)}")
            verdicts[item, question] = verdict
    return Ratings(rater=rater.strip(), verdicts=verdicts)


def read_all_ratings(paths: Sequence[Path], key: Key) -> tuple[Ratings, ...]:
    """One file for each rater. Raises `StudyError` for two files of a rater, which would count as two raters who always agree."""
    files: dict[str, Path] = {}
    all_ratings = []
    for path in paths:
        ratings = read_ratings(path, key)
        name = ratings.rater.casefold()
        if name in files:
            raise StudyError(f"{path} and {files[name]} are both by {ratings.rater}; name only the later one")
        files[name] = path
        all_ratings.append(ratings)
    return tuple(all_ratings)


def write_ratings(path: Path, key_study: str, ratings: Ratings) -> None:
    """Write ratings in the format that the page exports."""
    nested: dict[str, dict[str, str]] = {}
    for (item, question), verdict in ratings.verdicts.items():
        nested.setdefault(item, {})[question] = verdict
    facts = {"format": RATINGS_FORMAT, "study": key_study, "rater": ratings.rater, "ratings": nested}
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _object(path: Path, file_format: str, remedy: str) -> dict[str, Any]:
    try:
        facts = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"{path}: {error.strerror}; {remedy}") from None
    except ValueError as error:
        raise StudyError(f"{path}: no JSON ({error}); {remedy}") from None
    if not isinstance(facts, dict) or facts.get("format") != file_format:
        raise StudyError(f'{path} is not a file of the format "{file_format}"; {remedy}')
    return facts

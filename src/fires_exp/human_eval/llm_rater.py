"""A rater that is a language model: it answers the questions of the raters' page from the data of that page."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from PIL import Image
from tqdm import tqdm

from fires_exp.config.load import load_config, register_schema
from fires_exp.config.services import JudgeConfig
from fires_exp.errors import ConfigError, StudyError
from fires_exp.human_eval.files import PAGE, Ratings, write_ratings
from fires_exp.human_eval.study import Verdict
from fires_exp.prompts.templates import SPEAKER_NAMES
from fires_exp.scores.judge import Choices, PairwiseComparison, PairwiseJudge
from fires_exp.services.budget import Budget
from fires_exp.services.client import api_key
from fires_exp.services.concurrency import ConcurrentClient
from fires_exp.services.dry_run import CostEstimate, DryRun
from fires_exp.services.messages import ChatRequest, ChatResponse, Refusal
from fires_exp.services.response_cache import ResponseCache, cache_path

KEYS = "reward.judge."
_FACTS = re.compile(r'<script type="application/json" id="study">(.*?)</script>', re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """The data of the page (`form.form_facts`)."""

    study: str
    questions: Sequence[Mapping[str, str]]
    items: Sequence[Mapping[str, Any]]
    frames: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """The ratings and their file. `agreed` of the `compared` pairs have the same choice in both orders; `refused` ones have no
    rating."""

    path: Path
    ratings: Ratings
    compared: int
    agreed: int
    refused: int


def judge_settings(settings: Sequence[str]) -> JudgeConfig:
    """The service of `reward=judge` with overrides. Raises `ConfigError`."""
    for setting in settings:
        if not setting.startswith(KEYS) or "=" not in setting:
            raise ConfigError(f"{setting.partition('=')[0]}: write {KEYS}KEY=VALUE, as docs/config.md lists them")
    register_schema()
    try:
        with initialize_config_module("fires_exp.conf", version_base="1.3"):
            tree = compose("config", overrides=["reward=judge", *settings])
    except HydraException as error:
        raise ConfigError(str(error).strip().splitlines()[0]) from None
    return load_config(tree).reward.judge


def estimate(folder: Path, config: JudgeConfig, *, with_frames: bool) -> str:
    """A sentence on the requests and the tokens that rating would take."""
    cost_estimate = CostEstimate(config)
    dry_run = DryRun(config, _response_cache(folder, config), cost_estimate.add)
    requests = (request for pair in comparisons(read_form(folder), with_frames) for request in pair.in_both_orders)
    for _ in dry_run.complete(requests):
        pass
    return f"dry run, nothing was sent:\n{cost_estimate.as_text(dry_run.cached_count)}"


def fill_form(folder: Path, config: JudgeConfig, *, with_frames: bool) -> Judged:
    """Write ratings into a study's folder, under the model's name. Responses are cached there, so that a stopped call resumes.

    An answer wins if the model chooses it in both orders; otherwise the pair is a tie.
    """
    form = read_form(folder)
    api_key(config)
    client = ConcurrentClient(config, _response_cache(folder, config), Budget(config, key_file=None))
    bar = tqdm(total=2 * len(form.items) * len(form.questions), desc="judging", unit="question", disable=None)

    def ask(questions: Iterable[ChatRequest]) -> Iterator[tuple[ChatRequest, ChatResponse | Refusal]]:
        for pair in client.complete(questions):
            bar.update()
            yield pair

    with bar:
        choices = PairwiseJudge(ask=ask, attempts=config.attempts).compare(comparisons(form, with_frames))
    verdicts = {
        (item["name"], question["name"]): verdict
        for item in form.items
        for question in form.questions
        if (verdict := _verdict(choices[_id(item, question)])) is not None
    }
    model = config.model or ""
    path = folder / f"ratings_{form.study}_{re.sub(r'[^A-Za-z0-9.-]+', '_', model)}.json"
    ratings = Ratings(rater=model, verdicts=verdicts)
    write_ratings(path, form.study, ratings)
    return Judged(
        path=path,
        ratings=ratings,
        compared=len(choices),
        agreed=sum(first is not None and first == second for first, second in choices.values()),
        refused=len(choices) - len(verdicts),
    )


def read_form(folder: Path) -> Form:
    """Raises `StudyError` where the folder has no page of a study."""
    path = folder / PAGE
    try:
        match = _FACTS.search(path.read_text(encoding="utf-8"))
        facts = json.loads(match[1]) if match else {}
        return Form(study=facts["study"], questions=facts["questions"], items=facts["items"], frames=facts["frames"])
    except OSError as error:
        raise StudyError(f"{path}: {error.strerror}; name the folder that `fires-exp human-eval make` wrote") from None
    except (ValueError, KeyError, TypeError):
        raise StudyError(f"{path} is not the page of a study; make the study again with the same files and seed") from None


def comparisons(form: Form, with_frames: bool) -> Iterator[PairwiseComparison]:
    """Every question about every instance; as on the page, a question about responses shows no thought."""
    for item in form.items:
        shown = tuple(_history(item, form.frames if with_frames else None))
        for question in form.questions:
            a, b = (_side(item["answers"][side], question["about"]) for side in ("A", "B"))
            yield PairwiseComparison(id=_id(item, question), context=shown, question=question["text"], first=a, second=b)


def _history(item: Mapping[str, Any], frames: Sequence[str] | None) -> Iterator[str | Image.Image]:
    for turn in item["history"]:
        if frames is not None:
            yield from (_picture(frames[index]) for index in turn["frames"])
        yield f"{SPEAKER_NAMES[turn['speaker']]}: {turn['text']}\n"


def _picture(data_url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data_url.partition(",")[2]))).convert("RGB")


def _side(answer: Mapping[str, str], about: str) -> str:
    return answer["response"] if about == "response" else f"Thinking: {answer['thought']} Response: {answer['response']}"


def _verdict(choices: Choices) -> Verdict | None:
    """
    >>> _verdict(("first", "first")), _verdict(("first", "second")), _verdict(("second", "tie")), _verdict((None, "first"))
    ('A', 'tie', 'tie', None)
    """
    if None in choices:
        return None
    return {("first", "first"): "A", ("second", "second"): "B"}.get(choices, "tie")  # type: ignore[arg-type,return-value]


def _id(item: Mapping[str, Any], question: Mapping[str, str]) -> str:
    return f"{item['name']}/{question['name']}"


def _response_cache(folder: Path, config: JudgeConfig) -> ResponseCache:
    return ResponseCache(cache_path(folder, config))

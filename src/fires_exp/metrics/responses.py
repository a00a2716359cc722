"""The table's row: what predicted responses score against their references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import nltk

from fires_exp.metrics.thoughts import aspect_shares
from fires_exp.scores.bleu import bleu_2
from fires_exp.scores.distinct import distinct_corpus, distinct_per_response
from fires_exp.scores.rouge import METRIC_BETA, rouge_l_f, rouge_l_f1
from fires_exp.scores.tokens import TOKENS
from fires_exp.thinking.tags import ParsedCompletion
from fires_exp.thinking.thought import parse_thought


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricRow:
    """One number of a table with what is needed to read it. Scores are times 100, as the paper prints them; `direction` is the
    better one, `none` for what merely describes."""

    name: str
    value: float
    direction: Literal["higher", "lower", "none"]
    tokens: str
    version: str
    count: int


def response_metrics(completions: Sequence[ParsedCompletion], references: Sequence[str]) -> list[MetricRow]:
    """All metrics of a set of predictions, in the order of the table. A malformed completion is scored by what is left of it."""
    responses = [completion.response for completion in completions]
    nltk_version = f"nltk {nltk.__version__}"

    def score(
        name: str, value: float, direction: Literal["higher", "none"], tokens: str = TOKENS, version: str = nltk_version
    ) -> MetricRow:
        return MetricRow(name=name, value=100 * value, direction=direction, tokens=tokens, version=version, count=len(responses))

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    pairs = list(zip(references, responses, strict=True))
    rows = [
        score("BLEU-2", bleu_2(references, responses), "higher"),
        score(f"ROUGE-L (beta {METRIC_BETA})", mean([rouge_l_f(*pair) for pair in pairs]), "higher"),
        score("ROUGE-L F1", mean([rouge_l_f1(*pair) for pair in pairs]), "higher", "lower-case a-z0-9", "rouge-score"),
        score("Distinct-3 (corpus)", distinct_corpus(responses, 3), "higher"),
        score("Distinct-3 (per response)", distinct_per_response(responses, 3), "higher"),
        score("Well-formed", mean([float(completion.well_formed) for completion in completions]), "higher", "-", "fires_exp"),
        MetricRow(
            name="Response words",
            value=mean([float(len(response.split())) for response in responses]),
            direction="none",
            tokens="white space",
            version="fires_exp",
            count=len(responses),
        ),
    ]
    thoughts = [parse_thought(completion.thought) for completion in completions if completion.well_formed]
    for aspect, shares in aspect_shares(thoughts).items():
        rows.append(score(f"{aspect.label} in thoughts", 1 - shares["omitted"], "none", "-", "fires_exp"))
    return rows


def rows_as_json(rows: Sequence[MetricRow]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]

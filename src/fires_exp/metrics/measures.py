"""The metrics of one system's answers, family by family, as statistics that can be resampled."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fires_exp.errors import ScoreError
from fires_exp.metrics.bootstrap import Bleu2, Floats, LeftOut, Mean, Statistic
from fires_exp.metrics.rows import Measure
from fires_exp.scores.bertscore import BertScore
from fires_exp.scores.bleu import bleu_2_counts
from fires_exp.scores.distinct import distinct, distinct_without_each
from fires_exp.scores.epitome.levels import MECHANISMS, SupportSkillScorer, squared_differences
from fires_exp.scores.meteor import meteor
from fires_exp.scores.rouge import METRIC_BETA, rouge_l_f, rouge_l_f1
from fires_exp.scores.tokens import TOKENS
from fires_exp.thinking.aspects import Aspect
from fires_exp.thinking.thought import parse_thought

NLTK = f"nltk {importlib.metadata.version('nltk')}"
ROUGE_SCORE = f"rouge-score {importlib.metadata.version('rouge-score')}"
OURS = f"fires_exp {importlib.metadata.version('fires-exp')}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A system's response to an instance. `context` is the last seeker turn, None where nobody knows it; `thought` and
    `well_formed` are None where no form was asked for. A malformed answer's response is what is left of it."""

    response: str
    reference: str
    context: str | None
    thought: str | None
    well_formed: bool | None


def bleu(answers: Sequence[Answer]) -> list[Measure]:
    counts = Bleu2(np.array([bleu_2_counts(answer.reference, answer.response) for answer in answers], dtype=np.float64))
    return [_score("BLEU-2", counts, TOKENS, f"{NLTK}, smoothing 3", len(answers))]


def rouge(answers: Sequence[Answer]) -> list[Measure]:
    pairs = [(answer.reference, answer.response) for answer in answers]
    beta, plain = (_mean([score(*pair) for pair in pairs]) for score in (rouge_l_f, rouge_l_f1))
    return [
        _score(f"ROUGE-L (beta {METRIC_BETA})", beta, TOKENS, OURS, len(pairs)),
        _score("ROUGE-L F1", plain, "lower-case a-z0-9", ROUGE_SCORE, len(pairs)),
    ]


def meteors(answers: Sequence[Answer], wordnet: Any) -> list[Measure]:
    scores = _mean([meteor(answer.reference, answer.response, wordnet) for answer in answers])
    return [_score("METEOR", scores, TOKENS, f"{NLTK}, WordNet {wordnet.get_version()}", len(answers))]


def distinct_3(answers: Sequence[Answer]) -> list[Measure]:
    """Over the corpus, and as a mean over responses, where one shorter than three words counts 0."""
    responses = [answer.response for answer in answers]
    corpus = LeftOut(distinct(responses, 3), np.array(distinct_without_each(responses, 3)))
    return [
        _score("Distinct-3 (corpus)", corpus, TOKENS, OURS, len(answers)),
        _score("Distinct-3 (per response)", _mean([distinct([text], 3) for text in responses]), TOKENS, OURS, len(answers)),
    ]


def similarity(answers: Sequence[Answer], encoder: BertScore) -> list[Measure]:
    scores = encoder.f1([answer.reference for answer in answers], [answer.response for answer in answers])
    return [_score(encoder.name, _mean(scores), "the encoder's own", encoder.version, len(answers))]


def diff_epitome(answers: Sequence[Answer], scorer: SupportSkillScorer | None) -> list[Measure]:
    """Mean squared differences of levels, averaged over the mechanisms and for each."""
    contexts = [answer.context for answer in answers]
    known = [context for context in contexts if context is not None]
    if len(known) < len(contexts):
        raise ScoreError(f'{len(contexts) - len(known)} of {len(contexts)} instances have no "context", the last seeker turn')
    if scorer is None:
        raise ScoreError("nobody reads support skills here; name a scorer with reward.support_skill.scorer=<folder>")
    texts = ([answer.reference for answer in answers], [answer.response for answer in answers])
    references, responses = (scorer.levels(list(zip(known, side, strict=True))) for side in texts)
    squares = np.array([squared_differences(*pair) for pair in zip(references, responses, strict=True)], dtype=np.float64)
    columns = {"DIFF-EPITOME": squares.mean(axis=1)}
    columns |= {f"DIFF-EPITOME, {name.replace('_', ' ')}": squares[:, place] for place, name in enumerate(MECHANISMS)}
    return [
        Measure(
            name=name,
            direction="lower",
            tokens="the scorer's own",
            version=f"{scorer.name} {scorer.version}",
            statistic=_mean(values_N),
            count=len(answers),
            scale=1.0,
        )
        for name, values_N in columns.items()
    ]


def form(answers: Sequence[Answer]) -> list[Measure]:
    """Well-formed share, where a form was asked for; length; which aspects well-formed thoughts name."""
    formed = np.array([bool(answer.well_formed) for answer in answers], dtype=np.float64)
    asked = all(answer.well_formed is not None for answer in answers)
    measures = [_score("Well-formed", _mean(formed), "-", OURS, len(answers))] if asked else []
    measures.append(
        Measure(
            name="Response words",
            direction="none",
            tokens="white space",
            version=OURS,
            statistic=_mean([float(len(answer.response.split())) for answer in answers]),
            count=len(answers),
            scale=1.0,
        )
    )
    thoughts = [parse_thought(answer.thought or "") for answer in answers]
    for aspect in Aspect if asked and formed.any() else ():
        named = np.array([thought.status(aspect) != "omitted" for thought in thoughts], dtype=np.float64)
        measures.append(
            Measure(
                name=f"{aspect.label} in thoughts",
                direction="none",
                tokens="-",
                version=OURS,
                statistic=Mean(named, among_N=formed),
                count=int(formed.sum()),
                scale=100.0,
            )
        )
    return measures


def _mean(values: Sequence[float] | Floats) -> Mean:
    return Mean(np.asarray(values, dtype=np.float64), among_N=np.ones(len(values)))


def _score(name: str, statistic: Statistic, tokens: str, version: str, count: int) -> Measure:
    return Measure(name=name, direction="higher", tokens=tokens, version=version, statistic=statistic, count=count, scale=100.0)

"""The metrics of one system's responses, family by family, as statistics that can be resampled."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fires_exp.errors import ScoreError
from fires_exp.metrics.bootstrap import Bleu2, Floats, Jackknife, Mean, Statistic
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
class ScoredResponse:
    """A system's response to one instance, with what metrics compare it with.

    `context` is the last seeker turn, None if unknown. `thought` and `well_formed` are None for a system that is not asked for a
    thought. The response of a malformed completion is the text that remains of it.

    >>> ScoredResponse(response="Why?", reference="What happened?", context="I am sad.", thought=None, well_formed=None).response
    'Why?'
    """

    response: str
    reference: str
    context: str | None
    thought: str | None
    well_formed: bool | None


def bleu(responses: Sequence[ScoredResponse]) -> list[Measure]:
    counts = Bleu2(np.array([bleu_2_counts(scored.reference, scored.response) for scored in responses], dtype=np.float64))
    return [_percentage("BLEU-2", counts, TOKENS, f"{NLTK}, smoothing 3", len(responses))]


def rouge(responses: Sequence[ScoredResponse]) -> list[Measure]:
    pairs = [(scored.reference, scored.response) for scored in responses]
    beta, plain = (_mean([score(*pair) for pair in pairs]) for score in (rouge_l_f, rouge_l_f1))
    return [
        _percentage(f"ROUGE-L (beta {METRIC_BETA})", beta, TOKENS, OURS, len(pairs)),
        _percentage("ROUGE-L F1", plain, "lower-case a-z0-9", ROUGE_SCORE, len(pairs)),
    ]


def meteors(responses: Sequence[ScoredResponse], wordnet: Any) -> list[Measure]:
    scores = _mean([meteor(scored.reference, scored.response, wordnet) for scored in responses])
    return [_percentage("METEOR", scores, TOKENS, f"{NLTK}, WordNet {wordnet.get_version()}", len(responses))]


def distinct_3(responses: Sequence[ScoredResponse]) -> list[Measure]:
    """Over the corpus, and as a mean over responses, in which a response of fewer than three words counts 0."""
    texts = [scored.response for scored in responses]
    corpus = Jackknife(distinct(texts, 3), np.array(distinct_without_each(texts, 3)))
    per_response = _mean([distinct([text], 3) for text in texts])
    return [
        _percentage("Distinct-3 (corpus)", corpus, TOKENS, OURS, len(responses)),
        _percentage("Distinct-3 (per response)", per_response, TOKENS, OURS, len(responses)),
    ]


def similarity(responses: Sequence[ScoredResponse], encoder: BertScore) -> list[Measure]:
    scores = encoder.f1([scored.reference for scored in responses], [scored.response for scored in responses])
    return [_percentage(encoder.name, _mean(scores), "the encoder's own", encoder.version, len(responses))]


def diff_epitome(responses: Sequence[ScoredResponse], scorer: SupportSkillScorer | None) -> list[Measure]:
    """Mean squared differences of levels (Eq. 4): averaged over the mechanisms, and of each mechanism."""
    contexts = [scored.context for scored in responses]
    known = [context for context in contexts if context is not None]
    if len(known) < len(contexts):
        raise ScoreError(f'{len(contexts) - len(known)} of {len(contexts)} instances have no "context", the last seeker turn')
    if scorer is None:
        raise ScoreError("no scorer of support skills; name one with reward.support_skill.scorer=<folder>")
    texts = ([scored.reference for scored in responses], [scored.response for scored in responses])
    reference_levels, response_levels = (scorer.levels(list(zip(known, side, strict=True))) for side in texts)
    pairs = zip(reference_levels, response_levels, strict=True)
    squares_NM = np.array([squared_differences(*pair) for pair in pairs], dtype=np.float64)
    columns = {"DIFF-EPITOME": squares_NM.mean(axis=1)}
    columns |= {f"DIFF-EPITOME, {name.replace('_', ' ')}": squares_NM[:, index] for index, name in enumerate(MECHANISMS)}
    return [
        Measure(
            name=name,
            direction="lower",
            tokens="the scorer's own",
            version=f"{scorer.name} {scorer.version}",
            statistic=_mean(values_N),
            count=len(responses),
            scale=1.0,
        )
        for name, values_N in columns.items()
    ]


def form(responses: Sequence[ScoredResponse]) -> list[Measure]:
    """Response length, and for systems that are asked for a thought the share of well-formed completions and, among these, of
    thoughts that name each aspect."""
    well_formed_N = np.array([bool(scored.well_formed) for scored in responses], dtype=np.float64)
    has_form = all(scored.well_formed is not None for scored in responses)
    measures = [_percentage("Well-formed", _mean(well_formed_N), "-", OURS, len(responses))] if has_form else []
    measures.append(
        Measure(
            name="Response words",
            direction="none",
            tokens="white space",
            version=OURS,
            statistic=_mean([float(len(scored.response.split())) for scored in responses]),
            count=len(responses),
            scale=1.0,
        )
    )
    thoughts = [parse_thought(scored.thought or "") for scored in responses]
    for aspect in Aspect if has_form and well_formed_N.any() else ():
        named_N = np.array([thought.status(aspect) != "omitted" for thought in thoughts], dtype=np.float64)
        measures.append(
            Measure(
                name=f"{aspect.label} in thoughts",
                direction="none",
                tokens="-",
                version=OURS,
                statistic=Mean(named_N, among_N=well_formed_N),
                count=int(well_formed_N.sum()),
                scale=100.0,
            )
        )
    return measures


def _mean(values: Sequence[float] | Floats) -> Mean:
    return Mean(np.asarray(values, dtype=np.float64), among_N=np.ones(len(values)))


def _percentage(name: str, statistic: Statistic, tokens: str, version: str, count: int) -> Measure:
    return Measure(name=name, direction="higher", tokens=tokens, version=version, statistic=statistic, count=count, scale=100.0)

"""How fast is the scorer of support skills? Responses per second, compared with the forward passes only.

The overhead of the scorer (tokenization, batching by length, padding, caching) must be small. Both sides score the same (context,
response) pairs of the sample corpus in batches of 64, alternating; medians are compared.

    python benchmarks/scorer_speed.py [--scorer FOLDER] [--pairs 256] [--rounds 5]      without a folder: untrained, same size
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from hydra import compose, initialize_config_module

from fires_exp.config.load import load_config, register_schema
from fires_exp.config.root import Config
from fires_exp.data.dataset import read_dataset
from fires_exp.scores.encoder import load_encoder
from fires_exp.scores.epitome.levels import MECHANISMS, ContextAndResponse
from fires_exp.scores.epitome.model import Trunk, new_mechanism
from fires_exp.scores.epitome.scorer import BATCH_SIZE, EpitomeScorer, ScorerFacts, load_scorer
from fires_exp.scores.epitome.texts import pad


def composed() -> Config:
    register_schema()
    with initialize_config_module(config_module="fires_exp.conf", version_base="1.3"):
        return load_config(compose(config_name="config"))


def untrained(config: Config) -> EpitomeScorer:
    """An untrained scorer of the configured size: same cost, meaningless levels."""
    settings = config.epitome
    tokenizer, encoder = load_encoder(settings.encoder, Path(config.paths.cache))
    mechanisms = [
        new_mechanism(encoder, settings.frozen_layers, dropout=settings.dropout, encoder_dropout=0.0) for _ in MECHANISMS
    ]
    facts = ScorerFacts(
        name=f"untrained ({settings.encoder.name})",
        encoder=settings.encoder.name,
        frozen_layers=settings.frozen_layers,
        dropout=settings.dropout,
        max_tokens=settings.max_tokens,
        data="",
        split="",
        seed=0,
    )
    return EpitomeScorer(facts, Trunk(encoder, settings.frozen_layers), mechanisms, tokenizer, "untrained")


def distinct_pairs(config: Config, count: int) -> list[ContextAndResponse]:
    """`count` different pairs; a number is appended to a response to distinguish its copies."""
    examples = [example for split in read_dataset(config.dataset, config.seed, cache=None).examples.values() for example in split]
    return [
        (examples[index % len(examples)].last_seeker_text, f"{examples[index % len(examples)].reference_response} {index}")
        for index in range(count)
    ]


def forward_batches(scorer: EpitomeScorer, pairs: list[ContextAndResponse]) -> list[tuple[torch.Tensor, ...]]:
    """The same batches as tensors, ready for the forward passes."""
    responses = scorer.reader([response for _, response in pairs])
    seekers = scorer.reader([context for context, _ in pairs])
    order = sorted(range(len(pairs)), key=lambda index: len(responses[index].ids))
    batches: list[tuple[torch.Tensor, ...]] = []
    for start in range(0, len(order), BATCH_SIZE):
        indices = order[start : start + BATCH_SIZE]
        response_ids, response_mask = pad([responses[index].ids for index in indices], scorer.pad_id)
        seeker_ids, seeker_mask = pad([seekers[index].ids for index in indices], scorer.pad_id)
        with torch.no_grad():
            states = scorer.trunk.seeker(seeker_ids, seeker_mask)
        batches.append((response_ids, response_mask, states, seeker_mask))
    return batches


@torch.no_grad()
def forward_only(scorer: EpitomeScorer, batches: list[tuple[torch.Tensor, ...]]) -> None:
    for ids, mask, states, seeker_mask in batches:
        shared = scorer.trunk.response(ids, mask)
        for mechanism in scorer.mechanisms:
            mechanism(shared, mask, states, seeker_mask)


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scorer", type=Path)
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    config = composed()
    scorer = load_scorer(arguments.scorer, torch.device("cpu")) if arguments.scorer else untrained(config)
    pairs = distinct_pairs(config, arguments.pairs)
    batches = forward_batches(scorer, pairs)
    scorer.logits(pairs)  # seeker posts are cached from here on, as in training, where a post has G responses
    scorer_seconds, forward_seconds = [], []
    for _ in range(arguments.rounds):
        scorer_seconds.append(seconds(lambda: scorer.logits(pairs)))
        forward_seconds.append(seconds(lambda: forward_only(scorer, batches)))
    scored, forward = statistics.median(scorer_seconds), statistics.median(forward_seconds)
    print(f"{scorer.name}, {len(pairs)} responses, batches of {BATCH_SIZE}, {torch.get_num_threads()} threads, float32")
    print(f"scored            {len(pairs) / scored:8.1f} responses per second, three mechanisms each")
    print(f"forward only      {len(pairs) / forward:8.1f}")
    print(f"overhead          {100 * (scored / forward - 1):8.1f} %")
    started = time.perf_counter()
    scorer.levels(pairs)
    scorer.levels(pairs)
    first = time.perf_counter()
    scorer.levels(pairs)
    print(f"cached            {len(pairs) / (time.perf_counter() - first):8.0f} (first time {first - started:.2f} s)")


if __name__ == "__main__":
    main()

"""A first look at a dataset through the eyes of the chosen backbone."""

from __future__ import annotations

import json
from typing import Any

from tqdm import tqdm

from fires_exp.data.summary import describe_dataset
from fires_exp.pipeline.workspace import Workspace
from fires_exp.policy.backbone import build_processor
from fires_exp.storage.files import write_atomically


def inspect(work: Workspace) -> dict[str, Any]:
    """Counts, labels, missing clips, and prompt lengths in tokens; printed by the caller, written to `inspect.json`."""
    facts: dict[str, Any] = dict(describe_dataset(work.dataset))
    examples = [example for split in work.dataset.examples.values() for example in split]
    encode = work.encode(build_processor(work.config.backbone, work.cache), work.dataset, examples)
    lengths, frames, dropped = [], [], 0
    for example in tqdm(examples, desc="counting tokens", unit="instance", disable=not work.config.trainer.progress):
        prompt = encode(example)
        lengths.append(len(prompt.prompt_ids))
        frames.append(len(prompt.image_grid_thw))
        dropped += prompt.dropped_turns > 0
    ordered = sorted(lengths)
    facts["prompt_tokens"] = {
        "backbone": work.config.backbone.name,
        "mean": round(sum(ordered) / len(ordered), 1),
        "median": ordered[len(ordered) // 2],
        "p95": ordered[int(0.95 * (len(ordered) - 1))],
        "max": ordered[-1],
        "limit": work.config.prompt.max_tokens,
        "instances_that_lost_turns": dropped,
    }
    facts["frames_an_instance"] = {"mean": round(sum(frames) / len(frames), 2), "max": max(frames)}
    facts["bad_rows"] = len(work.dataset.bad_rows)
    write_atomically(work.run_folder / "inspect.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    return facts

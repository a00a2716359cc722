"""`fires-exp inspect`: counts, labels, missing clips and prompt lengths of a dataset, with the chosen backbone's tokenizer."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fires_exp.cli.compose import compose_command
from fires_exp.cli.console import command, log_to_terminal
from fires_exp.cli.policies import policy_factory
from fires_exp.config.commands import InspectCommandConfig
from fires_exp.data.dataset import Dataset, read_dataset
from fires_exp.data.summary import describe_dataset
from fires_exp.errors import ConfigError
from fires_exp.policy.factory import PolicyFactory
from fires_exp.storage.files import write_atomically


@command
def main(arguments: list[str]) -> None:
    log_to_terminal(logging.INFO)
    config = compose_command("inspect", InspectCommandConfig, arguments)
    factory = policy_factory(config, config.trainer, config.paths)
    dataset = read_dataset(config.dataset, config.seed, factory.cache)
    text = json.dumps(inspect(config, dataset, factory), indent=2, ensure_ascii=False)
    print(text)
    if config.output is not None:
        _write(Path(config.output).expanduser(), text + "\n", dataset)


def inspect(config: InspectCommandConfig, dataset: Dataset, factory: PolicyFactory) -> dict[str, Any]:
    """The facts of a dataset, ready for JSON; prompts are those that the policies of `factory` would read."""
    examples = [example for split in dataset.examples.values() for example in split]
    encode = factory.encoder(factory.processor(), dataset.video_root, examples)
    token_counts, frame_counts, shortened = [], [], 0
    for example in tqdm(examples, desc="counting tokens", unit="instance", disable=not config.trainer.progress):
        prompt = encode(example)
        token_counts.append(len(prompt.prompt_ids))
        frame_counts.append(len(prompt.image_grid_thw))
        shortened += prompt.dropped_turns > 0
    token_counts.sort()
    return {
        **describe_dataset(dataset),
        "prompt_tokens": {
            "backbone": config.backbone.name,
            "mean": round(sum(token_counts) / len(token_counts), 1),
            "median": token_counts[len(token_counts) // 2],
            "p95": token_counts[int(0.95 * (len(token_counts) - 1))],
            "max": token_counts[-1],
            "limit": config.prompt.max_tokens,
            "instances_that_lost_turns": shortened,
        },
        "frames_an_instance": {"mean": round(sum(frame_counts) / len(frame_counts), 2), "max": max(frame_counts)},
    }


def _write(folder: Path, facts: str, dataset: Dataset) -> None:
    """`inspect.json`, and `bad_rows.jsonl` where rows were skipped (dataset.on_bad_row=skip)."""
    rows = [{"file": str(row.file), "line": row.line, "problem": row.problem, "remedy": row.remedy} for row in dataset.bad_rows]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "inspect.json", facts)
        if rows:
            write_atomically(folder / "bad_rows.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    except OSError as error:
        raise ConfigError(f"output={folder}: cannot be written ({error.strerror}); name another folder") from None

"""Does the start-up cost of a run grow linearly with the data?

A corpus with the statistics of MESC is written to a temporary folder: 1,019 dialogues times the scale, with lines, turns and
words per line drawn from MESC's distributions and words from the shipped sample. Each scale is measured in its own process, so
that the memory increase is that of one scale. The last scale is started a second time with the cache of the first start.
Wall-clock seconds include the load of other processes, CPU seconds do not.

    python benchmarks/data_growth.py [--scales 1 10 100] [--backbone smollm2_vl] [--json FILE]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# counted in MESC.csv
DIALOGUES = {"train": 815, "val": 102, "test": 102}
LINES_MEAN, LINES_DEVIATION, LINES_LEAST = 28.2, 9.3, 8
SPEAKER_CHANGES = 0.328
LOG_WORDS_MEAN, LOG_WORDS_DEVIATION = 1.71, 0.62
EPISODES = 72
EMOTIONS = ("neutral", "depression", "anger", "disgust", "joy", "sadness", "fear")
STRATEGIES = ("undefined", "Open question", "Approval", "Self-disclosure", "Restatement", "Interpretation", "Advisement")
COLUMNS = (
    "Utterance",
    "Speaker",
    "Emotion",
    "Strategy",
    "Dialogue_ID",
    "Utterance_ID",
    "Season",
    "Episode",
    "StartTime",
    "EndTime",
)


def write_corpus(folder: Path, scale: int, seed: int) -> int:
    """Write `MESC.csv` and `split_ids.json`; the number of rows."""
    from fires_exp.data.readers.sample import sample_texts

    words = sorted({word for text in sample_texts() for word in text.split()})
    rng = random.Random(seed)
    splits: dict[str, list[int]] = {split: [] for split in DIALOGUES}
    rows = dialogue = 0
    with (folder / "MESC.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for split, count in DIALOGUES.items():
            for _ in range(count * scale):
                splits[split].append(dialogue)
                speaker = "Client"
                second = 0.0
                episode = rng.randrange(EPISODES)
                for number in range(max(LINES_LEAST, round(rng.gauss(LINES_MEAN, LINES_DEVIATION)))):
                    if number and rng.random() < SPEAKER_CHANGES:
                        speaker = "Therapist" if speaker == "Client" else "Client"
                    length = max(1, round(rng.lognormvariate(LOG_WORDS_MEAN, LOG_WORDS_DEVIATION)))
                    strategy = rng.choice(STRATEGIES) if speaker == "Therapist" else "undefined"
                    times = [_time(second), _time(second + 2.5)]
                    second += 3.0
                    cells = [" ".join(rng.choices(words, k=length)), speaker, rng.choice(EMOTIONS), strategy, dialogue, number]
                    writer.writerow([*cells, episode // 9 + 1, episode % 9 + 1, *times])
                    rows += 1
                dialogue += 1
    (folder / "split_ids.json").write_text(json.dumps(splits))
    return rows


def _time(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d},{round((seconds - whole) * 1000):03d}"


def measure(folder: Path, backbone: str) -> dict[str, Any]:
    """Seconds of each part of a start on the corpus in a folder, CPU seconds of all parts, and the increase of peak memory."""
    from hydra import compose, initialize_config_module

    from fires_exp.config.load import load_config, register_schema
    from fires_exp.pipeline.planner import Planner
    from fires_exp.pipeline.run_folder import RunFolder
    from fires_exp.policy.backbone import build_processor
    from fires_exp.report.run_record import peak_memory_bytes
    from fires_exp.training.fit import training_plan

    register_schema()
    with initialize_config_module(config_module="fires_exp.conf", version_base="1.3"):
        overrides = ["dataset=mesc", f"dataset.root={folder}", f"backbone={backbone}", "trainer=cpu", "scale=paper"]
        config = load_config(compose(config_name="config", overrides=overrides))
    parts: dict[str, float] = {}

    def timed(name: str, run: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = run()
        parts[name] = time.perf_counter() - started
        return result

    processor = build_processor(config.backbone, Path(config.paths.cache).expanduser())
    before, processor_before = peak_memory_bytes(), time.process_time()
    planner = Planner(config, RunFolder(folder, config))
    planner.cache = folder / "cache"  # for the dataset only, so that the backbone is not built again
    dataset = timed("reading", lambda: planner.dataset)
    train, test = planner.train, planner.test
    timed("keys of train", lambda: train.identity(with_frames=True))
    timed("keys of test", lambda: test.identity(with_frames=True))
    timed("keys again", lambda: (train.identity(with_frames=True), test.identity(with_frames=True)))
    encode = timed("lengths", lambda: planner.factory.encoder(processor, dataset.video_root, train.examples))
    plan = timed("order", lambda: training_plan(config.sft, len(train), config.seed))
    timed("first batch", lambda: [encode(train.examples[index]) for index in plan[0]])
    return {
        "instances": sum(len(split) for split in dataset.examples.values()),
        "seconds": {**parts, "all": sum(parts.values()), "all, processor": time.process_time() - processor_before},
        "memory_bytes": peak_memory_bytes() - before,
    }


def table(results: list[dict[str, Any]]) -> str:
    """A Markdown table with one row per part and one column per start."""
    lines = [
        "| | " + " | ".join(result["start"] for result in results) + " |",
        "| --- " * (len(results) + 1) + "|",
        "| rows | " + " | ".join(f"{result['rows']:,}" for result in results) + " |",
        "| instances | " + " | ".join(f"{result['instances']:,}" for result in results) + " |",
    ]
    for part in results[0]["seconds"]:
        lines.append(f"| {part} (s) | " + " | ".join(f"{result['seconds'][part]:.2f}" for result in results) + " |")
    lines.append("| memory (MB) | " + " | ".join(f"{result['memory_bytes'] / 1e6:.0f}" for result in results) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--backbone", default="smollm2_vl", help="whose tokenizer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # a child's: measure what lies there
    arguments = parser.parse_args()
    if arguments.folder is not None:
        print(json.dumps(measure(arguments.folder, arguments.backbone)))
        return
    results = []
    for scale in arguments.scales:
        with tempfile.TemporaryDirectory() as folder:
            rows = write_corpus(Path(folder), scale, arguments.seed)
            command = [sys.executable, __file__, "--folder", folder, "--backbone", arguments.backbone]
            for start in (f"x{scale}", f"x{scale} again")[: 2 if scale == arguments.scales[-1] else 1]:
                child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                results.append({"start": start, "rows": rows, **json.loads(child.stdout.splitlines()[-1])})
    print(table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

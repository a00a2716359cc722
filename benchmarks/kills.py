"""Does a run that is killed repeatedly at random times end with the results of an uninterrupted run?

The full recipe on the tiny backbone (thoughts, SFT, GRPO, predictions, table) runs once uninterrupted for each of a few seeds.
Then the same command is started and killed with SIGKILL after a random time, until the given number of kills is reached; now and
then it finishes. The results are compared byte by byte: adapters, predictions, the table and all logged numbers except times.

    python benchmarks/kills.py [--kills 50] [--json FILE]
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tqdm import tqdm

SEEDS = (1, 2)
LONGEST_SECONDS = 40.0
STEPS = ["sft.epochs=99", "sft.max_steps=40", "grpo.epochs=99", "grpo.max_steps=24"]
STEPS += ["sft.checkpoint_every_steps=2", "grpo.checkpoint_every_steps=2", "sft.lora.dropout=0.2", "grpo.lora.dropout=0.2"]


def command(folder: Path, seed: int) -> list[str]:
    return [
        sys.executable, "-m", "fires_exp", "+experiment=smoke", *STEPS, f"seed={seed}", "trainer.progress=false", "logger=csv",
        f"hydra.run.dir={folder / 'run'}", f"paths.artifacts={folder / 'artifacts'}",
    ]  # fmt: skip


def start(folder: Path, seed: int) -> subprocess.Popen[str]:
    return subprocess.Popen(command(folder, seed), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(folder: Path, seed: int) -> None:
    process = start(folder, seed)
    _, stderr = process.communicate()
    if process.returncode:
        raise SystemExit(f"seed {seed} ended with status {process.returncode}:\n{stderr}")


def running_stage(folder: Path) -> str:
    """The stage that was running when the run was killed, from the files of its folder."""
    begun = [done.parent.parent.name for done in folder.glob("artifacts/*/*/depends_on.json") if not _done(done.parent)]
    return begun[0] if begun else "between stages"


def _done(folder: Path) -> bool:
    return (folder / "done.json").is_file()


def results_of(folder: Path) -> dict[str, Any]:
    """The results of a run by file; of logged numbers, all but times."""
    results: dict[str, Any] = {}
    for path in sorted(folder.glob("artifacts/**/*.safetensors")) + sorted(folder.glob("artifacts/**/*.jsonl")):
        name = str(path.relative_to(folder / "artifacts"))
        results[name] = list(_rows(path)) if path.suffix == ".jsonl" else hashlib.sha256(path.read_bytes()).hexdigest()
    results["table"] = json.loads((folder / "run" / "metrics.json").read_text())["policies"]
    return results


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines():
        yield {name: value for name, value in json.loads(line).items() if not name.startswith("speed/") and name != "created"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the times of kills")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    uninterrupted: dict[int, dict[str, Any]] = {}
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as name:
            finish(Path(name), seed)
            uninterrupted[seed] = results_of(Path(name))
    killed_stages: collections.Counter[str] = collections.Counter()
    runs = different = 0
    bar = tqdm(total=arguments.kills, desc="kills", unit="kill")
    while bar.n < arguments.kills:
        seed = SEEDS[runs % len(SEEDS)]
        runs += 1
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            while bar.n < arguments.kills:
                process = start(folder, seed)
                time.sleep(rng.uniform(0.0, LONGEST_SECONDS))
                if process.poll() is not None:  # it finished before the kill
                    break
                process.kill()
                process.communicate()
                killed_stages[running_stage(folder)] += 1
                bar.update()
            finish(folder, seed)
            different += results_of(folder) != uninterrupted[seed]
    bar.close()
    result = {
        "kills": bar.n,
        "met": dict(killed_stages),
        "runs": runs,
        "different": different,
        "files": len(uninterrupted[SEEDS[0]]),
    }
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    if different:
        raise SystemExit(f"{different} of {runs} runs have other results than the uninterrupted ones")


if __name__ == "__main__":
    main()

"""How accurate are the memory estimates? One stage per process, with several shapes.

Each line is a run of two steps of one stage on synthetic conversations of one length: the estimate before the start (of the first
stage that uses the backbone, added to what the process held) and the measured peak. On a CPU both are resident memory.

    python benchmarks/memory_estimate.py [--backbone tiny smollm2_vl] [--dtype float32 bfloat16] [--only sft] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

TURNS = 9
INSTANCES = 8
NEW_TOKENS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """`words` is the length of the history, about as many tokens; with `frames` the shipped sample with its frames is used."""

    stage: str
    words: int
    batch: int
    micro: int
    checkpointing: bool
    frames: bool


CASES = (
    Case(stage="sft", words=300, batch=4, micro=1, checkpointing=False, frames=False),
    Case(stage="sft", words=300, batch=4, micro=4, checkpointing=False, frames=False),
    Case(stage="sft", words=1200, batch=4, micro=4, checkpointing=False, frames=False),
    Case(stage="sft", words=1200, batch=4, micro=4, checkpointing=True, frames=False),
    Case(stage="sft", words=0, batch=4, micro=4, checkpointing=False, frames=True),
    Case(stage="grpo", words=300, batch=2, micro=4, checkpointing=False, frames=False),
    Case(stage="grpo", words=1200, batch=2, micro=4, checkpointing=False, frames=False),
    Case(stage="grpo", words=1200, batch=8, micro=4, checkpointing=True, frames=False),
    Case(stage="grpo", words=2500, batch=2, micro=2, checkpointing=False, frames=False),
    Case(stage="predictions", words=1200, batch=16, micro=1, checkpointing=False, frames=False),
)


def write_conversations(path: Path, words: int, seed: int) -> None:
    """Write conversations of one length, each with one example that has the full history."""
    from fires_exp.data.readers.sample import sample_texts

    known = sorted({word for text in sample_texts() for word in text.split() if word.isalpha()})
    rng = random.Random(seed)

    def text_of(count: int) -> str:
        return " ".join(rng.choices(known, k=count))

    with path.open("w", encoding="utf-8") as file:
        for index in range(2 * INSTANCES):
            turns = [{"speaker": "seeker", "text": text_of(words // TURNS)} for _ in range(TURNS)]
            turns.append({"speaker": "supporter", "text": text_of(20)})
            row = {"id": f"c{index}", "split": "train" if index < INSTANCES else "test", "turns": turns}
            file.write(json.dumps(row) + "\n")


def run_case(case: Case, backbone: str, dtype: str, seed: int) -> dict[str, Any]:
    """The estimate's parts, the peak and their ratio."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if case.frames:
            dataset = ["dataset.limit.train=8", "dataset.limit.test=8", "frames=keyframes", "frames.max_frames=8"]
        else:
            write_conversations(folder / "talks.jsonl", case.words, seed)
            dataset = ["dataset=jsonl", f"dataset.root={folder / 'talks.jsonl'}", "frames=none"]
        stages = {
            "sft": ["recipe.stages=[synthesize,sft]", "recipe.policies=[]"],
            "grpo": ["recipe.stages=[grpo]", "recipe.policies=[]"],
            "predictions": ["recipe=zero_shot"],
        }[case.stage]
        checkpointing = str(case.checkpointing).lower()
        command = [
            sys.executable, "-m", "fires_exp", f"backbone={backbone}", f"backbone.dtype={dtype}", *dataset, *stages,
            "reward=wo_support_skill", "metrics.include=[rouge_l]", "prompt.max_tokens=4096", "trainer.progress=false",
            f"sampling.max_new_tokens={NEW_TOKENS}", f"predict.decoding.max_new_tokens={NEW_TOKENS}", "sft.max_steps=2",
            "grpo.max_steps=2", f"sft.batch_size={case.batch}", f"grpo.batch_size={case.batch}",
            f"predict.batch_size={case.batch}", f"sft.micro_batch_size={case.micro}", f"grpo.micro_batch_size={case.micro}",
            f"sft.gradient_checkpointing={checkpointing}", f"grpo.gradient_checkpointing={checkpointing}",
            f"sft.lora.train_vision={str(case.frames).lower()}", f"hydra.run.dir={folder / 'run'}",
            f"paths.artifacts={folder / 'artifacts'}", f"seed={seed}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
        run = json.loads((folder / "run" / "run.json").read_text())
    memory = next(stage["memory"] for stage in run["ahead"]["stages"] if stage["stage"] == case.stage)
    split = "test" if case.stage == "predictions" else "train"
    estimate = run["ahead"]["held"] + memory["peak"] + memory["gaps"]
    return {
        "prompt_tokens": run["ahead"]["prompts"][split]["longest_prompt"],
        "held": run["ahead"]["held"],
        "memory": memory,
        "estimate": estimate,
        "measured": run["peak_memory_bytes"],
        "ratio": round(estimate / run["peak_memory_bytes"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", nargs="+", default=["smollm2_vl"])
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--only", nargs="+", default=["sft", "grpo", "predictions"], help="stages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = []
    print("| stage | backbone | dtype | prompt | batch, micro | recompute | held | estimate (GB) | measured (GB) | ratio |")
    print("| --- " * 10 + "|")
    for backbone in arguments.backbone:
        for dtype in arguments.dtype:
            for case in (case for case in CASES if case.stage in arguments.only):
                measured = run_case(case, backbone, dtype, arguments.seed)
                results.append(
                    {"backbone": backbone, "dtype": dtype, **{name: getattr(case, name) for name in case.__slots__}, **measured}
                )
                prompt = f"{measured['prompt_tokens']}{' with frames' if case.frames else ''}"
                print(
                    f"| {case.stage} | {backbone} | {dtype} | {prompt} | {case.batch}, {case.micro} | "
                    f"{'yes' if case.checkpointing else 'no'} | {measured['held'] / 1e9:.2f} | "
                    f"{measured['estimate'] / 1e9:.2f} | {measured['measured'] / 1e9:.2f} | {measured['ratio']:.2f} |",
                    flush=True,
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

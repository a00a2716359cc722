"""Two runs on the shipped sample with invented answers, as a study compares them."""

import json
from pathlib import Path

from hydra import compose, initialize_config_module

from fires_exp.config.load import load_config, register_schema, write_yaml
from fires_exp.data.dataset import read_dataset

ATTACK = '</script><script>alert(1)</script><img src=x onerror="alert(2)"> & ‘quotes’ \u2028'
STUDY_COUNT = 3  # instances of the study that the browser shows
REPLIES = {
    "gemstone": "That sounds heavy, and it is all right to be tired. What would help you most tonight?",
    "limestone": "I see.\nHave you tried to sleep?",
}


def sample_config(cache, *overrides):
    register_schema()
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        return load_config(compose("config", overrides=[f"paths.cache={cache}", *overrides]))


def write_answers(path, name, examples, thinks):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, example in enumerate(examples):
        thought = f"Emotion: sadness\nSituation: turn {index}." if thinks else ""
        response = f"{REPLIES.get(name, 'Tell me more.')} ({index})"
        rows.append(
            {
                "id": example.id,
                "completion": f"<think>\n{thought}\n</think>\n<response>{response}</response>",
                "thought": thought,
                "response": response,
                "well_formed": True,
                "finish_reason": "stop",
                "context": example.last_seeker_text,
                "reference_response": example.reference_response,
            }
        )
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_system(folder, name, cache, *overrides, policies=("grpo",), thinks=True):
    """A run folder with predictions of each policy for the sample's test split."""
    config = sample_config(cache, f"name={name}", *overrides)
    folder.mkdir(parents=True)
    write_yaml(config, folder / "resolved.yaml")
    examples = read_dataset(config.dataset, config.seed, cache=None).examples["test"]
    for policy in policies:
        write_answers(folder / "predictions" / f"{policy}.jsonl", name, examples, thinks)
    return folder


def change_line(path: Path, index: int, **values):
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[index] = json.dumps(json.loads(lines[index]) | values)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

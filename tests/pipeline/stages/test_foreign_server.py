"""A baseline and a teacher behind `transformers serve` on loopback, with a tiny random language model."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import torch
from hydra import compose, initialize_config_module
from transformers import LlamaConfig, LlamaForCausalLM

from fires_exp.config.load import load_config, register_schema, write_yaml
from fires_exp.errors import StageError
from fires_exp.pipeline.run import run_recipe
from fires_exp.policy.tiny_models import tiny_backbone

NEEDED = ("fastapi", "uvicorn", "openai")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED), reason=f"transformers serve needs {', '.join(NEEDED)}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory, cache):
    """A random Llama with the tiny backbone's tokenizer and chat template; it reads no pictures."""
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(tiny_backbone(cache) / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def url(model, tmp_path_factory):
    """Where the server listens; it is stopped in the end."""
    tmp_path = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = [sys.executable, "-c", "from transformers.cli.transformers import app; app()", "serve", str(model)]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*serve, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
        )
    try:
        until = time.monotonic() + 120
        while not listening(port):
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() < until, "the server did not come up"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def listening(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def run(folder, cache, *overrides):
    register_schema()
    places = [f"paths.artifacts={folder / 'artifacts'}", f"paths.cache={cache}", "trainer.progress=false"]
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        config = load_config(compose("config", overrides=[*overrides, *places]))
    run_folder = folder / "run"
    run_folder.mkdir()
    write_yaml(config, run_folder / "resolved.yaml")
    run_recipe(config, run_folder)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_a_baseline_behind_transformers_serve_answers_and_is_scored(url, model, tmp_path, cache):
    run(
        tmp_path, cache,
        "+experiment=gpt_4o_3shot", f"baseline.base_url={url}", f"baseline.model={model}", "baseline.api_key_env=null",
        "baseline.max_tokens=8", "baseline.shots=1", "baseline.retries=0", "frames=none", "scale=smoke",
        "dataset.limit.test=3",
    )  # fmt: skip
    rows = lines(tmp_path / "run" / "predictions" / "baseline.jsonl")
    assert len(rows) == 3
    assert all(row["completion"] for row in rows)
    assert {row["finish_reason"] for row in rows} <= {"length", "stop"}
    (response_file,) = (tmp_path / "artifacts" / "answers").glob("*.jsonl")
    assert all(
        answer["usage"]["prompt_tokens"] > 50 and 1 <= answer["usage"]["completion_tokens"] <= 8
        for answer in lines(response_file)
    )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "BLEU-2" in {row["name"] for row in metrics["policies"]["baseline"]}


@pytest.mark.slow
def test_a_teacher_behind_transformers_serve_is_asked_again_and_what_it_says_is_set_aside(url, model, tmp_path, cache):
    """A random model writes no thought: each of three instances is asked twice, the second time with the reason."""
    with pytest.raises(StageError, match=r"none of 3 thoughts .*set_aside\.jsonl"):
        run(
            tmp_path, cache,
            "recipe=synthesize", "teacher=openai", f"teacher.base_url={url}", f"teacher.model={model}",
            "teacher.api_key_env=null", "teacher.max_tokens=8", "teacher.attempts=2", "teacher.retries=0", "frames=none",
            "dataset.limit.train=3",
        )  # fmt: skip
    (response_file,) = (tmp_path / "artifacts" / "answers").glob("*.jsonl")
    answers = lines(response_file)
    assert len(answers) == 6
    assert all(answer["usage"]["prompt_tokens"] > 500 for answer in answers)  # demonstrations, conversation and response
    (aside,) = (tmp_path / "artifacts" / "thoughts").glob("*/set_aside.jsonl")
    assert [len(one["answers"]) for one in lines(aside)] == [2, 2, 2]

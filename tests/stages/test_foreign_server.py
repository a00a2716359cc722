"""A rival behind a server that is not ours: `transformers serve` on loopback with a tiny random language model."""

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
from fires_exp.policy.embedded import tiny_backbone
from fires_exp.stages.recipe import run_recipe

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


@pytest.fixture
def url(model, tmp_path):
    """Where the server listens; it is stopped in the end."""
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


@pytest.mark.slow
def test_a_rival_behind_transformers_serve_answers_and_is_scored(url, model, tmp_path, cache):
    register_schema()
    overrides = [
        "+experiment=gpt_4o_3shot", f"rival.base_url={url}", f"rival.model={model}", "rival.api_key_env=null",
        "rival.max_tokens=8", "rival.shots=1", "rival.retries=0", "frames=none", "metrics=smoke", "epitome=smoke",
        "dataset.limit.test=3",
        "trainer.progress=false",
        f"paths.artifacts={tmp_path / 'artifacts'}", f"paths.cache={cache}",
    ]  # fmt: skip
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        config = load_config(compose("config", overrides=overrides))
    folder = tmp_path / "run"
    folder.mkdir()
    write_yaml(config, folder / "resolved.yaml")
    run_recipe(config, folder)
    rows = [json.loads(line) for line in (folder / "predictions" / "rival.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    assert all(row["completion"] for row in rows)
    assert {row["finish_reason"] for row in rows} <= {"length", "stop"}
    (ledger,) = (tmp_path / "artifacts" / "answers").glob("*.jsonl")
    answers = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert all(answer["usage"]["prompt_tokens"] > 50 and 1 <= answer["usage"]["completion_tokens"] <= 8 for answer in answers)
    assert "BLEU-2" in {row["name"] for row in json.loads((folder / "metrics.json").read_text())["policies"]["rival"]}

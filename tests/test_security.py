"""What the code never does, looked up in its syntax trees; and what a key that is about never gets into."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faulty_server import serving, status

ROOT = Path(__file__).parents[1]
FILES = sorted(path for folder in ("src", "benchmarks", "experiments", "checks") for path in (ROOT / folder).rglob("*.py"))
RUNS_PICKLES = {"pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}


def name_of(node):
    """`a.b.c` of a name or attribute; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{name_of(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def said(call, keyword):
    """The constant that a call gives a keyword; None where it gives none."""
    return next((one.value.value for one in call.keywords if one.arg == keyword and isinstance(one.value, ast.Constant)), None)


def unsafe(source):
    """What in the source runs foreign code, or may: one line each."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{node.lineno}: import {name}" for name in modules if name.split(".")[0] in RUNS_PICKLES]
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node.func)
        wrong = {
            "runs a text as code": name in ("eval", "exec", "builtins.eval", "builtins.exec", "__import__"),
            "torch.load without weights_only=True": name == "torch.load" and said(node, "weights_only") is not True,
            "Trainer.fit from a checkpoint without weights_only=True": any(one.arg == "ckpt_path" for one in node.keywords)
            and said(node, "weights_only") is not True,
            "np.load with allow_pickle": bool(said(node, "allow_pickle")),
            "YAML that makes objects": name.split(".")[0] == "yaml"
            and name.split(".")[-1] in ("load", "unsafe_load", "full_load")
            and not any(
                one.arg == "Loader" and ast.unparse(one.value).endswith(("SafeLoader", "SAFE_LOADER")) for one in node.keywords
            ),
            "a shell": said(node, "shell") is True or name in ("os.system", "os.popen", "subprocess.getoutput"),
            "code from a hub": said(node, "trust_remote_code") is not None,
            "weights that may be pickles": name.endswith(("AutoModel.from_pretrained", "ConditionalGeneration.from_pretrained"))
            and said(node, "use_safetensors") is not True,
            "an archive unpacked unfiltered": name.endswith(".extractall") and said(node, "filter") != "data",
            "HTML that does not escape": name in ("Environment", "jinja2.Environment") and said(node, "autoescape") is not True,
        }
        found += [f"{node.lineno}: {what}" for what, is_so in wrong.items() if is_so]
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from joblib import load", "eval(x)", "torch.load(path)", "torch.load(path, weights_only=False)",
        "trainer.fit(module, ckpt_path=path)", "numpy.load(path, allow_pickle=True)", "yaml.load(text)",
        "subprocess.run(command, shell=True)", "os.system(command)", "AutoModel.from_pretrained(name)",
        "AutoTokenizer.from_pretrained(name, trust_remote_code=True)", "tar.extractall(folder)", "Environment(loader=files)",
    ],
)  # fmt: skip
def test_what_is_unsafe_is_seen(source):
    assert len(unsafe(source)) == 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_runs_foreign_code(path):
    found = unsafe(path.read_text(encoding="utf-8"))
    if path.name == "model_card.py":  # writes Markdown
        assert len(found) == 1
        assert found.pop().endswith("HTML that does not escape")
    assert found == []


def test_only_our_own_script_style_and_drawings_go_onto_a_page_unescaped():
    marked = {path.name for path in FILES if "Markup(" in path.read_text(encoding="utf-8")}
    assert marked <= {"charts.py", "form.py"}
    assert not [path for path in (ROOT / "src").rglob("*.html") if "|safe" in path.read_text().replace(" ", "")]


def test_a_key_in_the_environment_gets_into_no_file_and_no_line_of_a_run(tmp_path, cache):
    """The service repeats the key, as some do; W&B is on, offline; the run fails, which writes more than one that does not."""
    keys = {"OPENAI_API_KEY": "sk-proj-0123456789abcdefghij", "WANDB_API_KEY": "f" * 40, "HF_TOKEN": "hf_abcdefghijklmnopqrst"}
    fault = status(401, f"Incorrect API key provided: {keys['OPENAI_API_KEY']}")
    with serving(lambda body: "No.", faults=[fault] * 99) as server:
        overrides = [
            "+experiment=smoke", "logger=wandb", "trainer.progress=false", "aspects=no_thought", "frames=none",
            "reward=wo_support_skill", "recipe.stages=[sft,evaluate]", "recipe.policies=[baseline]", "metrics.include=[rouge_l]",
            f"baseline.base_url={server.url}", "baseline.model=stub", "baseline.api_key_env=OPENAI_API_KEY",
            "baseline.requests_per_minute=60000",
            f"paths.cache={cache}", "hydra.run.dir=run", "dataset.limit.train=4", "dataset.limit.test=2", "sft.max_steps=1",
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "fires_exp", *overrides],
            cwd=tmp_path,
            env={**os.environ, **keys, "OMP_NUM_THREADS": "1", "WANDB_SILENT": "true"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2, done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"].startswith("ServiceError: ")
    assert "Incorrect API key provided: ***" in done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if path.suffix == ".wandb"]
    for name, key in keys.items():
        assert key not in done.stdout + done.stderr, name
        assert not [path for path in files if key.encode() in path.read_bytes()], name

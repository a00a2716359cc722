"""The key of a stage changes with every statement of the code that builds it, and with nothing else."""

import shutil

import pytest

from fires_exp.storage import code_fingerprint as fingerprints

STAGES = ("sft", "grpo", "predictions", "thoughts", "epitome", "hints", "baseline", "trained_baseline")
ROOTS = tuple(f"pipeline.stages.{stage}" for stage in STAGES)
CLOSURES = {root: fingerprints.closure(root) for root in ROOTS}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package's code that a test may edit."""
    copy = tmp_path / "fires_exp"
    shutil.copytree(fingerprints.PACKAGE, copy, ignore=lambda _, names: [name for name in names if name == "sample_corpus"])
    monkeypatch.setattr(fingerprints, "PACKAGE", copy)
    return copy


def edit(path, change):
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def add_statement(source):
    return source + "\n_edited = 1\n"


def test_an_edit_of_any_module_in_the_closure_changes_the_key_of_each_stage_that_imports_it(package):
    before = {root: fingerprints.code_fingerprint(root) for root in ROOTS}
    for module in sorted({module for closure in CLOSURES.values() for module in closure}):
        uses = next(root for root in ROOTS if module in CLOSURES[root])
        path = fingerprints.closure(uses)[module]
        original = path.read_text(encoding="utf-8")
        path.write_text(add_statement(original), encoding="utf-8")
        assert fingerprints.code_fingerprint(uses) != before[uses], module
        for root in [root for root in ROOTS if module not in CLOSURES[root]][:1]:
            assert fingerprints.code_fingerprint(root) == before[root], module
        path.write_text(original, encoding="utf-8")


@pytest.mark.parametrize(
    ("root", "module"),
    [
        ("sft", "training.zero2"),
        ("sft", "training.checkpoints"),
        ("sft", "policy.factory"),
        ("grpo", "scores.judge"),
        ("grpo", "metrics.thoughts"),
        ("thoughts", "services.messages"),
        ("baseline", "services.messages"),
    ],
)
def test_code_that_affects_a_stage_is_in_its_closure(root, module):
    assert module in CLOSURES[f"pipeline.stages.{root}"]


def test_comments_docstrings_and_layout_do_not_count(package):
    file = package / "grpo" / "advantages.py"
    file.write_text('"""Doc."""\ndef f(x):\n    """Doc."""\n    return x + 1  # why\n')
    before = fingerprints.code_fingerprint("grpo.advantages")
    edit(file, lambda _: '"""Other."""\n\n\ndef f(x):\n    """More."""\n    # because\n    return x + 1\n')
    assert fingerprints.code_fingerprint("grpo.advantages") == before
    edit(file, lambda source: source.replace("x + 1", "x + 2"))
    assert fingerprints.code_fingerprint("grpo.advantages") != before


def test_moving_a_module_does_not_count(package):
    before = fingerprints.code_fingerprint("pipeline.stages.grpo")
    (package / "grpo" / "advantages.py").rename(package / "policy" / "advantages.py")
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "fires_exp.grpo.advantages" in text:
            path.write_text(text.replace("fires_exp.grpo.advantages", "fires_exp.policy.advantages"), encoding="utf-8")
    assert fingerprints.code_fingerprint("pipeline.stages.grpo") == before


def test_an_import_inside_a_function_counts(package):
    edit(
        package / "grpo" / "loss.py",
        lambda source: source + "\n\ndef late():\n    from fires_exp.scores import bleu\n\n    return bleu\n",
    )
    assert "scores.bleu" in fingerprints.closure("grpo.loss")


@pytest.mark.parametrize("module", sorted(fingerprints.NO_EFFECT))
def test_what_is_left_out_exists(module):
    folder = fingerprints.PACKAGE.joinpath(*module.split("."))
    assert folder.is_dir() or folder.with_suffix(".py").is_file()


def test_no_code_that_computes_imports_what_is_left_out():
    """Messages, settings and files apart: what it would import from there could change its results."""
    harmless = ("errors", "config", "storage")
    computing = {
        module: path
        for closure in CLOSURES.values()
        for module, path in closure.items()
        if module.split(".")[0] not in ("pipeline", *harmless)
    }
    assert len(computing) > 60
    for module, path in computing.items():
        left_out = {name for name in fingerprints._imported(path) if fingerprints.has_no_effect(name)}
        assert not {name for name in left_out if name.split(".")[0] not in harmless}, module


def test_every_module_that_is_left_out_is_reached_by_a_stage():
    """Otherwise its line says nothing."""
    everything = set()
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        path = fingerprints._file(name)
        if path is not None and name not in everything:
            everything.add(name)
            waiting += fingerprints._imported(path)
    unused = [
        module
        for module in fingerprints.NO_EFFECT
        if not any(name == module or name.startswith(f"{module}.") for name in everything)
    ]
    assert not unused

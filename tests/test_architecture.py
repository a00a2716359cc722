"""The house rules that a machine can check: who imports whom, what ships, how long a file gets."""

import ast
import tomllib
from pathlib import Path

import pytest
from architecture import ORDER

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "fires_exp"

FILES = sorted(PACKAGE.rglob("*.py"))
LONG_FILES: dict[str, str] = {}  # file and the reason for its length


def imported(path):
    """Dotted names of everything that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {f"fires_exp.{alias.name}" for alias in node.names} if node.module == "fires_exp" else {node.module}
    return names


def home(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", [path for path in FILES if home(path) in ORDER], ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_folder_imports_only_folders_above_it(path):
    own = {name.split(".")[1] for name in imported(path) if name.startswith("fires_exp.")}
    above = set(ORDER[: ORDER.index(home(path)) + 1])
    assert own <= above


def test_every_folder_has_its_place_in_the_order():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert folders | {"errors"} == set(ORDER)


def test_config_needs_neither_torch_nor_transformers():
    names = {name.split(".")[0] for path in FILES if home(path) == "config" for name in imported(path)}
    assert not names & {"torch", "transformers", "numpy", "pytorch_lightning"}


@pytest.mark.parametrize("name", ["advantages", "loss"])
def test_the_equations_of_grpo_need_torch_and_types_of_settings_only(name):
    names = imported(PACKAGE / "grpo" / f"{name}.py")
    assert {name.split(".")[0] for name in names} <= {"__future__", "dataclasses", "typing", "torch", "fires_exp"}
    assert {name for name in names if name.startswith("fires_exp")} <= {"fires_exp.errors", "fires_exp.config.training"}


def test_grpo_is_six_files_that_import_only_earlier_ones():
    order = ["rollouts", "rewards", "advantages", "loss", "batch", "module"]
    folder = PACKAGE / "grpo"
    assert {path.stem for path in folder.glob("*.py")} == {*order, "__init__"}
    for index, name in enumerate(order):
        own = {module.split(".")[2] for module in imported(folder / f"{name}.py") if module.startswith("fires_exp.grpo.")}
        assert own <= {*order[:index], *(["monitoring"] if name == "module" else [])}


def test_only_training_and_the_run_folder_import_lightning():
    users = {
        str(path.relative_to(PACKAGE)) for path in FILES if any(name.startswith("pytorch_lightning") for name in imported(path))
    }
    modules = ("stepped_module", "fit", "checkpoints", "strategies")
    loggers = ("factory", "run_folder", "tensorboard", "wandb")
    training = {f"training/{name}.py" for name in (*modules, *(f"loggers/{name}" for name in loggers))}
    assert users == {"pipeline/run_folder.py", *training}


def test_the_wheel_holds_every_package():
    with (ROOT / "pyproject.toml").open("rb") as file:
        packages = tomllib.load(file)["tool"]["setuptools"]["packages"]
    on_disk = {".".join(("fires_exp", *path.parent.relative_to(PACKAGE).parts)) for path in PACKAGE.rglob("__init__.py")}
    assert set(packages) == on_disk | {"fires_exp.conf"}


def test_no_file_is_called_nothing():
    assert not [path for path in FILES if path.stem in ("utils", "util", "common", "helpers", "base", "misc")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_over_three_hundred_lines_has_a_reason(path):
    name = str(path.relative_to(PACKAGE))
    assert (len(path.read_text().splitlines()) <= 300) != (name in LONG_FILES)

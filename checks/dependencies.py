"""What the sources import against what pyproject.toml declares."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

# distributions whose import name is another
DISTRIBUTIONS = {
    "PIL": "pillow", "cv2": "opencv-python-headless", "hydra": "hydra-core", "yaml": "pyyaml",
    "lightning_fabric": "pytorch-lightning",
}  # fmt: skip
# declared although no source imports them, and why
INDIRECT = {
    "gguf": "transformers reads GGUF files with it",
    "tensorboard": "torch.utils.tensorboard writes with it",
    "hydra-joblib-launcher": "a plugin that Hydra finds by itself",
    "hydra-submitit-launcher": "a plugin that Hydra finds by itself",
    "hydra-optuna-sweeper": "a plugin that Hydra finds by itself",
    "submitit": "the launcher's, in the version that works with it",
}


def dependency_problems(pyproject: Path, trees: Mapping[str, ast.Module], *, own: str) -> list[str]:
    """A line for each imported distribution that is not declared, in the main list or in an extra other than `dev`; for each
    that is declared there and not imported; and for each that is declared several times. `trees` are the sources by path."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {})
    for_users = [*project["dependencies"], *(entry for name, entries in extras.items() if name != "dev" for entry in entries)]
    declared = Counter(map(_distribution, for_users))
    everywhere = declared + Counter(map(_distribution, extras.get("dev", ())))
    imported: dict[str, str] = {}
    for path, tree in trees.items():
        for name in _outside_imports(tree) - {own}:
            imported.setdefault(normalized(DISTRIBUTIONS.get(name, name)), path)
    problems = [f"{name}: imported by {path}, not declared" for name, path in sorted(imported.items()) if name not in declared]
    unused = sorted(set(declared) - set(imported) - set(INDIRECT))
    problems += [f"{name}: declared, but nothing imports it" for name in unused]
    return problems + [f"{name}: declared {count} times" for name, count in sorted(everywhere.items()) if count > 1]


def _outside_imports(tree: ast.AST) -> set[str]:
    """First parts of imported names that are neither ours nor the standard library's; also of `import_module("…")`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "import_module":
            names |= {str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)}
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def _distribution(requirement: str) -> str:
    return normalized(re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0])


def normalized(name: str) -> str:
    """As package indexes compare names.

    >>> normalized("huggingface_hub")
    'huggingface-hub'
    """
    return re.sub(r"[-_.]+", "-", name).lower()

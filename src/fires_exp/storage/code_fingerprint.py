"""A hash of the code that a stage's result depends on: the import closure of the module that builds it.

A module's contribution is its syntax tree without docstrings and without the paths of its imports, and contributions are
combined without regard to paths. So moving a file, editing a comment or reformatting changes nothing; editing any statement of
any module in the closure does.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
NAME = PACKAGE.name

# Modules, or folders of modules, that cannot change the contents of an artifact, with the reason.
NO_EFFECT: Mapping[str, str] = {
    "errors": "exceptions: they end a stage and never alter its output",
    "config": "types and constraints of settings: the values that a stage uses are in its key",
    "storage.artifacts": "where artifacts lie and when they are reused",
    "storage.code_fingerprint": "this module",
    "storage.run_files": "reads files of run folders for reports",
    "training.loggers": "copies of the logged numbers for people to look at",
    "report": "tables, plots and pages, made from results",
    "pipeline.stage": "the interface of a stage and the lookup of its artifact",
    "pipeline.planner": "which stages run and in what order; a stage's inputs are in its key",
    "pipeline.run_folder": "copies of results in the run folder",
    "pipeline.preflight": "estimates of time, memory and disk",
    "pipeline.resource_errors": "messages about exhausted memory and disk",
}


def code_fingerprint(module: str) -> str:
    """Twelve hex digits for the import closure of `module`: a dotted name below the package, such as `pipeline.stages.sft`, or
    the name of an imported module elsewhere, whose own file then counts beside what it imports from the package."""
    return _combined(sorted(_digest(path) for path in closure(module).values()))


def closure(module: str) -> dict[str, Path]:
    """The modules of this package that `module` imports, directly or not and wherever in a file, itself included, without those
    in `NO_EFFECT`: dotted names below the package with their files. Imports of an excluded module are not followed."""
    modules: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if name in modules or path is None or has_no_effect(name):
            continue
        modules[name] = path
        waiting.extend(_imported(path))
    return modules


def has_no_effect(module: str) -> bool:
    """Whether `NO_EFFECT` lists the module or a folder that it lies in.

    >>> has_no_effect("config.load"), has_no_effect("grpo.loss")
    (True, False)
    """
    parts = module.split(".")
    return any(".".join(parts[:length]) in NO_EFFECT for length in range(1, len(parts) + 1))


def _file(module: str) -> Path | None:
    stem = PACKAGE.joinpath(*module.split("."))
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return path
    elsewhere = getattr(sys.modules.get(module), "__file__", None)
    return Path(elsewhere) if elsewhere is not None and elsewhere.endswith(".py") else None


def _combined(digests: Sequence[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:12]


def _imported(path: Path) -> tuple[str, ...]:
    """Dotted names below the package; of `from package import name` both, since `name` may be a module."""
    return _parse(path, path.stat().st_mtime_ns)[0]


def _digest(path: Path) -> str:
    return _parse(path, path.stat().st_mtime_ns)[1]


@cache
def _parse(path: Path, modified_ns: int) -> tuple[tuple[str, ...], str]:
    """What `_imported` and `_digest` return, once for each state of the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return _imported_names(tree), _tree_digest(tree)  # the digest comes last: it takes imports and docstrings out of the tree


def _imported_names(tree: ast.Module) -> tuple[str, ...]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name.removeprefix(f"{NAME}.") for name in names if name.startswith(f"{NAME}."))


def _tree_digest(tree: ast.Module) -> str:
    imports = sorted(_normalized_imports(tree))
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            if isinstance(statements, list):
                setattr(
                    node, field, [statement for statement in statements if not isinstance(statement, ast.Import | ast.ImportFrom)]
                )
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _has_docstring(node):
            node.body = node.body[1:]
    return hashlib.sha256(f"{imports}\n{ast.dump(tree)}".encode()).hexdigest()


def _normalized_imports(tree: ast.Module) -> Iterator[str]:
    """Every import as text; of the package's own modules without the path, which a move changes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {alias.name} {alias.asname}" for alias in node.names if not alias.name.startswith(f"{NAME}."))
        elif isinstance(node, ast.ImportFrom):
            own = (node.module or "").split(".")[0] == NAME
            yield from (f"from {'' if own else node.module} import {alias.name} {alias.asname}" for alias in node.names)


def _has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)

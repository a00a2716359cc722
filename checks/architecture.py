"""`python checks/architecture.py [ROOT]`: measures of the arrangement of the code, and exit status 1 where one is missed.

Each measure prints one line with its value and one line for each place that breaks it. The sources are parsed, never imported,
so that any tree can be measured.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from call_chains import chains_of_carriers
from dependencies import dependency_problems

ROOT = Path(__file__).parents[1]
PACKAGE = "fires_exp"
# a folder imports only folders that come before it
ORDER = (
    "errors", "config", "distributed", "storage", "data", "services", "thinking", "prompts", "policy", "scores", "metrics",
    "training", "grpo", "baselines", "report", "human_eval", "paper", "export", "chat", "pipeline", "cli",
)  # fmt: skip
STAGES = frozenset({"sft", "grpo", "predictions", "thoughts", "epitome", "evaluate", "hints"})
# stages are declared here, or listed as data
STAGE_FILES = ("config/stages.py", "pipeline/stages/", "training/loggers/panels.py")
LONGEST_FILE = 300  # lines
LONG_FILES = {"tools/draw_sample_clips.py": "a script of its own, which drew the sample's clips; no module imports it"}
LARGEST_SHARE = 0.10  # of the lines of code, in one folder of the package
LONGEST_CHAIN = 4  # calls from one module into another that pass an object of the pipeline on
# used as names of variables, these do not say what the variable holds
VAGUE_NAMES = frozenset({"place", "found", "one", "told", "asked", "there", "kept", "beside", "said"})
MOST_VAGUE_NAMES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """What was measured; it is missed where there are problems, one line each."""

    name: str
    value: str
    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Module:
    """A source file of the package; `name` is dotted, e.g. fires_exp.grpo.loss."""

    name: str
    path: Path
    tree: ast.Module
    text: str

    @property
    def folder(self) -> str:
        """The first folder below the package, or the file itself."""
        return self.name.split(".")[1] if "." in self.name else ""


def read_modules(root: Path) -> dict[str, Module]:
    """The package's modules by name; a folder's `__init__.py` has the folder's name."""
    source = root / "src"
    modules = {}
    for path in sorted((source / PACKAGE).rglob("*.py")):
        name = ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        text = path.read_text(encoding="utf-8")
        modules[name] = Module(name=name, path=path.relative_to(root), tree=ast.parse(text), text=text)
    return modules


def stage_ladders(modules: Iterable[Module]) -> Measure:
    """Places that branch on or look up the name of a stage outside of the files that declare stages."""
    problems = []
    for module in modules:
        inner = module.path.as_posix().partition(f"{PACKAGE}/")[2]
        if not inner.startswith(STAGE_FILES):
            problems += [f"{module.path}:{node.lineno}: {ast.unparse(node)[:90]}" for node in _ladders(module.tree)]
    return Measure(name="branches on names of stages", value=f"{len(problems)}, allowed 0", problems=tuple(problems))


def _ladders(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and _is_ladder(node):
            yield node
        elif isinstance(node, ast.For | ast.comprehension) and _lists_stages_only(node.iter):
            yield node.iter
        elif isinstance(node, ast.MatchValue) and _names_a_stage(node.value):
            yield node.value


def _is_ladder(node: ast.expr) -> bool:
    """Whether an expression compares with a stage's name, intersects with a set of them or maps from several of them."""
    if isinstance(node, ast.Compare):
        return any(map(_names_a_stage, (node.left, *node.comparators)))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd):
        return bool(_stages_in(node.left) or _stages_in(node.right))
    return isinstance(node, ast.Dict) and sum(key is not None and _names_a_stage(key) for key in node.keys) > 1


def _names_a_stage(node: ast.expr) -> bool:
    if isinstance(node, ast.Attribute):  # a member of an enumeration
        return isinstance(node.value, ast.Name) and "Stage" in node.value.id and node.attr.lower() in STAGES
    return (isinstance(node, ast.Constant) and node.value in STAGES) or bool(_stages_in(node))


def _lists_stages_only(node: ast.expr) -> bool:
    """Groups of the configuration are named like stages; a list that has others too is one of groups."""
    return isinstance(node, ast.Tuple | ast.List | ast.Set) and len(_stages_in(node)) == len(node.elts) > 1


def _stages_in(node: ast.expr) -> list[ast.expr]:
    """The stages that a literal collection lists."""
    return [item for item in node.elts if _names_a_stage(item)] if isinstance(node, ast.Tuple | ast.List | ast.Set) else []


def climbs(modules: Mapping[str, Module]) -> tuple[Measure, Measure]:
    """Who knows the pipeline from below, and how far its objects are passed on from the GRPO stage (see `call_chains`)."""
    above = [module for module in modules.values() if module.folder in ORDER[: ORDER.index("pipeline")]]
    users = [
        f"{module.path} imports {name}"
        for module in above
        for name in sorted(imports_of(module, modules))
        if name.startswith(f"{PACKAGE}.pipeline")
    ]
    trees = {name: module.tree for name, module in modules.items()}
    chain, entered = chains_of_carriers(trees, start=f"{PACKAGE}.pipeline.stages.grpo", carriers=f"{PACKAGE}.pipeline")
    too_long = (" → ".join(chain),) if len(chain) - 1 > LONGEST_CHAIN else ()
    value = f"{max(0, len(chain) - 1)}, allowed {LONGEST_CHAIN}; modules entered: {len(entered)}"
    return (
        Measure(name="modules above the pipeline that import it", value=f"{len(users)}, allowed 0", problems=tuple(users)),
        Measure(
            name="calls in a row that pass an object of the pipeline on, from the GRPO stage", value=value, problems=too_long
        ),
    )


def long_files(root: Path) -> Measure:
    lengths = {
        path.relative_to(root).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for folder in ("src", "checks", "benchmarks", "tools")
        for path in sorted((root / folder).rglob("*.py"))
    }
    lengths = {name: count for name, count in lengths.items() if name not in LONG_FILES}
    problems = [f"{name}: {count} lines" for name, count in lengths.items() if count > LONGEST_FILE]
    longest = max(lengths.values(), default=0)
    return Measure(name="lines of the longest file", value=f"{longest}, allowed {LONGEST_FILE}", problems=tuple(problems))


def folder_shares(modules: Iterable[Module]) -> Measure:
    """A folder's own files; those of the folders in it are theirs."""
    counts: Counter[str] = Counter()
    for module in modules:
        folder = module.path.parent
        below = folder.parts[len(folder.parts) - folder.parts[::-1].index(PACKAGE) :]
        counts["/".join(below)] += code_lines(module.text)
    total = max(1, sum(counts.values()))
    shares = {folder: count / total for folder, count in counts.most_common() if folder}
    value = f"allowed {LARGEST_SHARE:.0%} of {total}: " + ", ".join(f"{folder} {share:.1%}" for folder, share in shares.items())
    problems = [f"{folder}/: {share:.1%} of the code" for folder, share in shares.items() if share >= LARGEST_SHARE]
    return Measure(name="shares of folders", value=value, problems=tuple(problems))


def code_lines(text: str) -> int:
    """Lines with code: without blank lines, comments and docstrings."""
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def imports_of(module: Module, modules: Mapping[str, Module]) -> set[str]:
    """The modules of the package that a module imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {member if member in modules else node.module for member in members}
    return {name for name in names if name in modules and name != PACKAGE} - {module.name}


def import_order(modules: Mapping[str, Module]) -> tuple[Measure, Measure]:
    imports = {name: imports_of(module, modules) for name, module in modules.items()}
    circles = [" ↔ ".join(circle) for circle in circles_of(imports)]
    rank = {folder: index for index, folder in enumerate(ORDER)}
    upward = [
        f"{modules[name].path} imports {other}"
        for name, others in imports.items()
        for other in sorted(others)
        if modules[name].folder in rank and rank.get(modules[other].folder, len(ORDER)) > rank[modules[name].folder]
    ]
    return (
        Measure(name="import circles between modules", value=f"{len(circles)}, allowed 0", problems=tuple(circles)),
        Measure(name="imports of a folder further down", value=f"{len(upward)}, allowed 0", problems=tuple(upward)),
    )


def circles_of(imports: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, directly or through others."""
    reachable = {name: _reachable(name, imports) for name in imports}
    groups = {tuple(sorted(other for other in others if name in reachable[other])) for name, others in reachable.items()}
    return [list(group) for group in sorted(groups) if group]


def _reachable(start: str, imports: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(imports[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += imports[name]
    return seen


def class_names(modules: Iterable[Module]) -> Measure:
    places: dict[str, list[str]] = {}
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(module.path))
    problems = [f"{name}: {', '.join(paths)}" for name, paths in sorted(places.items()) if len(paths) > 1]
    return Measure(name="names that several classes have", value=f"{len(problems)}, allowed 0", problems=tuple(problems))


def dependencies(root: Path, modules: Mapping[str, Module]) -> Measure:
    """Every imported distribution is declared once, in the main list or in an extra of users; none is declared in vain."""
    trees = {str(module.path): module.tree for module in modules.values()}
    problems = dependency_problems(root / "pyproject.toml", trees, own=PACKAGE)
    return Measure(name="dependencies", value="declared once each, and imported", problems=tuple(problems))


def vague_names(modules: Iterable[Module]) -> Measure:
    counts: Counter[str] = Counter()
    for module in modules:
        for node in ast.walk(module.tree):
            name = node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else ""
            if name in VAGUE_NAMES:
                counts[f"{module.path}: {name}"] += 1
    total = counts.total()
    problems = [f"{where} {count} times" for where, count in counts.most_common()] if total > MOST_VAGUE_NAMES else []
    return Measure(name="uses of vague names", value=f"{total}, allowed {MOST_VAGUE_NAMES}", problems=tuple(problems))


def measure(root: Path) -> list[Measure]:
    modules = read_modules(root)
    return [
        stage_ladders(modules.values()),
        *climbs(modules),
        long_files(root),
        folder_shares(modules.values()),
        *import_order(modules),
        class_names(modules.values()),
        dependencies(root, modules),
        vague_names(modules.values()),
    ]


def main(arguments: Sequence[str]) -> int:
    measures = measure(Path(arguments[0]) if arguments else ROOT)
    for result in measures:
        print(f"{'MISSED' if result.problems else 'ok'}: {result.name}: {result.value}")
        for problem in result.problems:
            print(f"    {problem}")
    return 1 if any(result.problems for result in measures) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

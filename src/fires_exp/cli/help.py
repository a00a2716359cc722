"""The texts of `--help`: of the whole program, and of the commands whose keys are configured."""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fires_exp.config.field import Group
from fires_exp.config.options import conf_folder, groups


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A command of `fires-exp`: `module` is its file in `cli/`, `purpose` its line in the help. `example` is given where the
    command has a configuration root `conf/<command>.yaml`; the others parse their arguments themselves."""

    module: str
    purpose: str
    example: str | None = None


COMMANDS: Mapping[str, Command] = {
    "resume": Command(module="job", purpose="resume a run that was stopped: fires-exp resume RUN_FOLDER"),
    "score": Command(
        module="score",
        purpose="metrics of predictions from files, against references",
        example="fires-exp score predictions=preds.jsonl references=refs.jsonl metrics=paper output=scores",
    ),
    "inspect": Command(
        module="inspect",
        purpose="counts, labels, missing clips and prompt lengths of a dataset",
        example="fires-exp inspect dataset=mesc dataset.root=DATA prompt.max_tokens=4096",
    ),
    "export": Command(
        module="export",
        purpose="merged weights, LoRA adapter and model card of a run's model",
        example="fires-exp export adapter=runs/demo/TIME:sft output=my-model",
    ),
    "chat": Command(
        module="chat",
        purpose="a conversation with a run's model, in the terminal or on a page",
        example="fires-exp chat adapter=runs/demo/TIME web=true port=0",
    ),
    "sweep": Command(module="sweep", purpose="all rows of a table of the paper, and of several seeds"),
    "report": Command(module="report", purpose="the page of a run, of a table, or of the whole paper"),
    "human-eval": Command(module="human_eval", purpose="a blind comparison of two systems by people or by a model"),
    "dashboards": Command(module="dashboards", purpose="the workspace and the report in Weights & Biases"),
}

INTRODUCTION = """\
fires-exp trains and evaluates a vision-language model that thinks before it replies in emotional support conversations:
SFT on thoughts (cold start), then GRPO, for the experiments of the FIRES paper. It is a research tool, not a counselor.

usage: fires-exp [key=value …]             compose a configuration and run its recipe (also: python -m fires_exp)
       fires-exp -m [key=value,value …]    one run for each combination
       fires-exp COMMAND [argument …]      one of the commands below; fires-exp COMMAND --help

  fires-exp                                          SFT, GRPO, table and report on the shipped sample, minutes on a CPU
  fires-exp +experiment=wo_situation                 one ablation of the paper
  fires-exp -m +experiment=fires grpo.beta=0,0.04    a sweep
  fires-exp inspect dataset=mesc dataset.root=DATA   a first look at a dataset
  fires-exp chat adapter=runs/demo/TIME web=true     a conversation with the model that a run trained"""

CLOSING = """\
Every key: docs/config.md. The composed configuration: fires-exp [key=value …] --cfg job. Hydra's own options: --hydra-help."""


def help_text() -> str:
    """The help of the program: what it is, examples, commands, recipes, experiments."""
    commands = {name: command.purpose for name, command in COMMANDS.items()}
    return "\n\n".join(
        (
            INTRODUCTION,
            "commands\n" + _table(commands),
            "recipes (recipe=…)\n" + _table(descriptions("recipe")),
            "experiments (+experiment=…), by table of the paper\n" + _table(_by_text(descriptions("experiment"))),
            CLOSING,
        )
    )


def command_help(name: str, root: type[Group], defaults: Mapping[str, Any]) -> str:
    """The help of a command with a configuration: its own keys with their defaults, and the groups that it takes.

    `defaults` is the composed tree of `conf/<name>.yaml`, as containers.
    """
    options = groups()
    keys = {f"{key}={_shown(value)}": meaning for key, value, meaning in _own_keys(root, defaults, "", skip=frozenset(options))}
    taken = {
        f"{field.name}=": f"{field.metadata['setting'].meaning}: {', '.join(options[field.name])}"
        for field in dataclasses.fields(root)  # type: ignore[arg-type]  # every Group is a dataclass
        if field.name in options
    }
    return "\n\n".join(
        (
            f"{COMMANDS[name].purpose}\n\nusage: fires-exp {name} [key=value …]\n\n  {COMMANDS[name].example}",
            "keys and their defaults\n" + _table(keys),
            "groups (docs/config.md lists their keys)\n" + _table(taken),
        )
    )


def descriptions(group: str) -> dict[str, str]:
    """The options of a group with the first comment line of each file; empty where it has none."""
    return {path.stem: _first_comment(path) for path in sorted((conf_folder() / group).glob("*.yaml"))}


def _first_comment(path: Path) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.lstrip("# ")
        if not line.startswith("#"):
            break
    return ""


def _own_keys(
    root: type[Group], defaults: Mapping[str, Any], prefix: str, *, skip: frozenset[str]
) -> Iterator[tuple[str, Any, str]]:
    """(dotted key, default, meaning) of every key that belongs to no group in `skip`."""
    annotations = typing.get_type_hints(root)
    for field in dataclasses.fields(root):  # type: ignore[arg-type]  # every Group is a dataclass
        if prefix + field.name in skip:
            continue
        annotation, value = annotations[field.name], defaults[field.name]
        if isinstance(annotation, type) and issubclass(annotation, Group):
            yield from _own_keys(annotation, value, f"{prefix}{field.name}.", skip=skip)
        else:
            yield f"{prefix}{field.name}", value, field.metadata["setting"].meaning


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return {None: "null", "???": "(required)"}.get(value, str(value))


def _by_text(rows: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(rows.items(), key=lambda row: row[1]))


def _table(rows: Mapping[str, str]) -> str:
    """Two columns, the second one wrapped to the width of the terminal."""
    left = max(map(len, rows)) + 4
    width = max(shutil.get_terminal_size(fallback=(120, 24)).columns, left + 40)
    return "\n".join(
        textwrap.fill(text or "–", width, initial_indent=f"  {name}".ljust(left), subsequent_indent=" " * left)
        for name, text in rows.items()
    )

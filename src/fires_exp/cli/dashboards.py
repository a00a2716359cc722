"""`fires-exp dashboards`: save the workspace and the report in Weights & Biases, or write them as JSON."""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path

from fires_exp.cli.console import command
from fires_exp.errors import ReportError

KEY = "WANDB_API_KEY"


@command
def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise ReportError("dashboards need a package that is not installed: pip install fires-exp[wandb]")
    print(_save(options) if os.environ.get(KEY) else _write(options))


def _save(options: argparse.Namespace) -> str:
    """Save both; their addresses, one a line. Raises `ReportError` where Weights & Biases does not accept them."""
    import wandb

    from fires_exp.report.dashboards.wandb_views import report, workspace

    try:
        entity = options.entity or wandb.Api().default_entity
        if not entity:
            raise ReportError("the key has no default team; write --entity <user or team>")
        # the report first: saving it creates a project that does not exist yet
        pages = [report(entity, options.project).save().url, workspace(entity, options.project).save().url]
    except ReportError:
        raise
    except Exception as error:  # the libraries raise exceptions of many types, bare ones too
        problem = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ReportError(f"W&B did not accept the dashboards ({problem}); check {KEY}, --entity and --project") from None
    return "\n".join(pages)


def _write(options: argparse.Namespace) -> str:
    """Write both as JSON; a line that names the files."""
    from fires_exp.report.dashboards.wandb_views import report, workspace

    specs = {
        "workspace.json": workspace(options.entity or "", options.project)._to_model().spec,
        "report.json": report(options.entity or "", options.project)._to_model().spec,
    }
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        for name, spec in specs.items():
            (options.out / name).write_text(
                spec.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n", encoding="utf-8"
            )
    except OSError as error:
        raise ReportError(f"{options.out} cannot be written ({error.strerror}); write --out <folder>") from None
    return f"without {KEY} nothing was sent: {' and '.join(str(options.out / name) for name in specs)} hold the dashboards"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fires-exp dashboards", description=__doc__.partition(": ")[2])
    parser.add_argument("--project", default="fires_exp", help="the W&B project, logger.project of the runs (fires_exp)")
    parser.add_argument("--entity", help="W&B user or team; left out, your default")
    parser.add_argument("--out", type=Path, default=Path("runs/dashboards"), help="folder for the JSON files (runs/dashboards)")
    return parser

"""`python -m fires_exp.report.dashboards`: save the workspace and the report in Weights & Biases, or write them as JSON."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from fires_exp.config.secrets import without_secrets
from fires_exp.errors import FiresError, ReportError

USER_ERROR = 2
KEY = "WANDB_API_KEY"


def main(arguments: list[str]) -> int:
    asked = _parser().parse_args(arguments)
    try:
        if importlib.util.find_spec("wandb_workspaces") is None:
            raise ReportError("dashboards need a package that is not installed: pip install fires-exp[wandb]")
        print(_saved(asked) if os.environ.get(KEY) else _written(asked))
    except FiresError as error:
        print(f"fires_exp: {without_secrets(str(error))}", file=sys.stderr)
        return USER_ERROR
    return 0


def _saved(asked: argparse.Namespace) -> str:
    """Save both, one line each. Raises `ReportError` where Weights & Biases does not take them."""
    import wandb

    from fires_exp.report.dashboards.wandb_views import report, workspace

    try:
        entity = asked.entity or wandb.Api().default_entity
        if not entity:
            raise ReportError("the key has no default team; write --entity <user or team>")
        # the report first: it makes a project that is not there yet
        pages = [report(entity, asked.project).save().url, workspace(entity, asked.project).save().url]
    except ReportError:
        raise
    except Exception as error:  # the libraries raise whatever, bare exceptions among it
        problem = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ReportError(f"W&B did not take the dashboards ({problem}); look at {KEY}, --entity and --project") from None
    return "\n".join(pages)


def _written(asked: argparse.Namespace) -> str:
    """Write what would be saved, and say where."""
    from fires_exp.report.dashboards.wandb_views import report, workspace

    specs = {
        "workspace.json": workspace(asked.entity or "", asked.project)._to_model().spec,
        "report.json": report(asked.entity or "", asked.project)._to_model().spec,
    }
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
        for name, spec in specs.items():
            (asked.out / name).write_text(
                spec.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n", encoding="utf-8"
            )
    except OSError as error:
        raise ReportError(f"{asked.out} cannot be written ({error.strerror}); write --out <folder>") from None
    return f"without {KEY} nothing was sent: {' and '.join(str(asked.out / name) for name in specs)} hold what would be saved"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fires_exp.report.dashboards", description=__doc__.partition(": ")[2])
    parser.add_argument("--project", default="fires_exp", help="the W&B project, logger.project of the runs (fires_exp)")
    parser.add_argument("--entity", help="W&B user or team; left out, your default")
    parser.add_argument("--out", type=Path, default=Path("runs/dashboards"), help="folder for the JSON files (runs/dashboards)")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`fires-exp score`: metrics of predictions from files, against references."""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from fires_exp.cli.compose import compose_command, compose_training
from fires_exp.cli.console import command, log_to_terminal
from fires_exp.config.commands import ScoreCommandConfig
from fires_exp.distributed.device import select_device
from fires_exp.errors import ConfigError
from fires_exp.metrics.prediction_files import read_systems
from fires_exp.metrics.responses import response_metrics
from fires_exp.report.page import gather
from fires_exp.report.provenance import badges_of, choices_made
from fires_exp.report.tables import evaluation_text
from fires_exp.report.templates import render
from fires_exp.scores.epitome.levels import SupportSkillScorer
from fires_exp.scores.epitome.scorer import load_scorer
from fires_exp.storage.files import write_atomically


@command
def main(arguments: list[str]) -> None:
    log_to_terminal(logging.INFO)
    config = compose_command("score", ScoreCommandConfig, arguments)
    table = score(config)
    print(evaluation_text(table))
    if config.output is not None:
        print(_write_report(Path(config.output).expanduser(), table))


def score(config: ScoreCommandConfig) -> dict[str, Any]:
    """The table of the configured files, as `metrics.json` holds it. A scorer of support skills is loaded, or trained, only where
    DIFF-EPITOME is wanted and every instance has a context."""
    files = config.prediction_files
    systems = read_systems(files, config.references)
    have_contexts = all(answer.context is not None for answers in systems.values() for answer in answers)
    scorer = support_skill_scorer(config) if have_contexts and "diff_epitome" in config.metrics.include else None
    evaluation = response_metrics(
        systems,
        config.metrics,
        seed=config.seed,
        cache=_folder(config.paths.cache),
        device=select_device(config.trainer),
        scorer=scorer,
        progress=config.trainer.progress,
    )
    return {
        "predictions": dict(zip(systems, files, strict=True)),
        "references": config.references,
        "scorer": scorer.name if scorer else None,
        "instances": len(next(iter(systems.values()))),
        **evaluation.as_json(),
    }


def support_skill_scorer(config: ScoreCommandConfig) -> SupportSkillScorer:
    """The scorer of the folder `scorer`; where that is null, the one that `epitome` describes."""
    return load_scorer(
        sample_scorer(config) if config.scorer is None else Path(config.scorer).expanduser(), select_device(config.trainer)
    )


def sample_scorer(config: ScoreCommandConfig) -> Path:
    """The folder of the scorer that `epitome` describes: trained by the pipeline's stage, or reused from the artifacts."""
    from fires_exp.pipeline.planner import Planner
    from fires_exp.pipeline.run_folder import RunFolder
    from fires_exp.pipeline.stages.epitome import EpitomeStage

    of_run = replace(compose_training([]), seed=config.seed, epitome=config.epitome, trainer=config.trainer, paths=config.paths)
    with tempfile.TemporaryDirectory(prefix="fires_exp_score_") as run_folder:
        planner = Planner(of_run, RunFolder(Path(run_folder), of_run))
        return EpitomeStage.of(planner).get().folder


def _write_report(folder: Path, table: dict[str, Any]) -> Path:
    """Write `metrics.json` and `report.html`; the path of the page."""
    if (folder / "run.json").exists():
        raise ConfigError(f"output={folder}: a run folder, whose own table would be lost; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "metrics.json", json.dumps(table, indent=2, ensure_ascii=False) + "\n")
        badges = badges_of({}, {}, choices_made(table, {}, {}))
        page = replace(gather(folder), name="Scores", status="", outcome="open", badges=badges)
        write_atomically(folder / "report.html", render("report/page.html", page=page))
    except OSError as error:
        raise ConfigError(f"output={folder}: cannot be written ({error.strerror}); name another folder") from None
    return folder / "report.html"


def _folder(path: str) -> Path:
    return Path(path).expanduser().absolute()

"""The run folder while its run is under way: everything in it is current, so that the page can be read at any moment.

resolved.yaml      the configuration             metrics.jsonl      every logged step of the training stages
run.json           status, stages, versions      metrics.json       the final table
predictions/       one file a policy             completions.jsonl  GRPO's samples with their rewards
instance_scores/   the scores of each instance   report.html        all of it on one page
thoughts.jsonl     the thoughts learned from     aspect_shares.svg  which aspects they name (Figure 3)
set_aside.jsonl    instances without a thought   bad_rows.jsonl     rows left out (dataset.on_bad_row=skip)
log.txt, logs/     messages, logger files        frame_sensitivity.json
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from fires_exp.config.root import Config
from fires_exp.data.readers.row_errors import BadRow
from fires_exp.distributed import collectives
from fires_exp.pipeline.resource_errors import resource_errors
from fires_exp.pipeline.stage import Stage
from fires_exp.report.page import write_page
from fires_exp.report.run_record import FINISHED, RunRecord, StageProgress, StageState
from fires_exp.storage.files import complete_lines, write_atomically
from fires_exp.training.fit import COMPLETIONS, METRICS
from fires_exp.training.loggers.factory import open_logger, replay_steps
from fires_exp.training.loggers.run_folder import RunFolderLogger

log = logging.getLogger("fires_exp.pipeline")

REFRESH_SECONDS = 15.0
# a page takes longer the more was logged; it must not slow the run down
REFRESH_SHARE = 0.02
# what a run leaves, and the next run in the same folder removes first
_RESULTS = (
    METRICS, COMPLETIONS, "metrics.json", "report.html", "bad_rows.jsonl", "predictions", "instance_scores", "thoughts.jsonl",
    "set_aside.jsonl", "aspect_shares.svg", "frame_sensitivity.json", "epitome_test.json", "epitome_confusion.png",
    "epitome_calibration.png",
)  # fmt: skip


class RunFolder:
    """Of several ranks, only the main rank holds a record and writes."""

    def __init__(self, path: Path, config: Config) -> None:
        self.path = path
        self.config = config
        self._record: RunRecord | None = None
        self._indices: dict[Path, int] = {}
        self._next_refresh = 0.0

    def start(self) -> None:
        """Remove the results of an earlier run from the folder and begin the record."""
        for path in (self.path / name for name in _RESULTS):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self._record = RunRecord.start(self.path, self.config)

    def set_plan(self, stages: Sequence[Stage], policies: Mapping[str, Sequence[Stage]]) -> None:
        """Record the planned stages, and which adapters make up each trained policy."""
        if self._record is None:
            return
        self._indices = {stage.folder: index for index, stage in enumerate(stages)}
        self._record.plan(
            [StageProgress(stage=stage.name, label=stage.label, key=stage.key, folder=stage.folder) for stage in stages]
        )
        adapters = {
            policy: [{"stage": stage.name, "key": stage.key, "folder": str(stage.folder)} for stage in chain]
            for policy, chain in policies.items()
        }
        self._record.note("policies", adapters)

    def note(self, name: str, fact: Any) -> None:
        """Add a fact to run.json."""
        if self._record is not None:
            self._record.note(name, fact)

    def finish(self, status: str) -> None:
        """Write how the run ended into the record and onto the page. After an error a full disk must not hide it, so that a
        problem with either is only logged then."""
        if self._record is None:
            return
        try:
            self._record.finish(status)
        except OSError:
            if status == FINISHED:
                raise
            return
        self._render()
        log.info("report: %s", self.path / "report.html")

    def run_stage(self, stage: Stage) -> None:
        """Build the stage's artifact or reuse it, and publish it."""
        self._update(stage, StageState.RUNNING)
        try:
            with resource_errors(self.config, stage):
                artifact = stage.get()
        finally:
            self.add_training(stage)
        state = StageState.REUSED if artifact.reused else StageState.FINISHED
        self._update(stage, state, seconds=artifact.seconds)
        if collectives.is_main():
            stage.publish(artifact, self.path)
            self.refresh()
        stage.verify()

    def open_loggers(self, stage: str, stage_folder: Path) -> list[Logger]:
        """The configured logger, and this folder's own metrics.jsonl and page."""
        self.copy_steps(stage, stage_folder)
        return [*self.open_configured_logger(stage, stage_folder), RunFolderLogger(self.path, stage, self.refresh)]

    def open_configured_logger(self, stage: str, stage_folder: Path) -> list[Logger]:
        """The configured logger in `logs/`, with the steps that an interrupted run had logged."""
        logger = open_logger(self.config, stage=stage, stage_folder=stage_folder, run_folder=self.path)
        replay_steps(logger, self.config.logger, metrics=stage_folder / METRICS, completions=stage_folder / COMPLETIONS)
        return [logger]

    def add_training(self, stage: Stage) -> None:
        """Take over the logged steps and samples of a stage, finished or not."""
        if collectives.is_main() and stage.logs_steps:
            self.copy_steps(stage.name, stage.folder)

    def copy_steps(self, stage: str, stage_folder: Path) -> None:
        """Replace the rows of a stage in metrics.jsonl, and completions.jsonl where the stage has one."""
        rows = [line for line in complete_lines(self.path / METRICS) if json.loads(line)["stage"] != stage]
        rows += [json.dumps({"stage": stage, **json.loads(line)}) for line in complete_lines(stage_folder / METRICS)]
        write_atomically(self.path / METRICS, "".join(row + "\n" for row in rows))
        if (stage_folder / COMPLETIONS).is_file():
            samples = complete_lines(stage_folder / COMPLETIONS)
            write_atomically(self.path / COMPLETIONS, "".join(row + "\n" for row in samples))

    def write_bad_rows(self, rows: Sequence[BadRow]) -> None:
        """List the rows of datasets that were left out."""
        if rows and collectives.is_main():
            path = self.path / "bad_rows.jsonl"
            log.info("%d bad rows were left out; they are listed in %s", len(rows), path)
            lines = [{"file": str(row.file), "line": row.line, "problem": row.problem, "remedy": row.remedy} for row in rows]
            write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def refresh(self) -> None:
        """Render the page, unless it was rendered a moment ago. A problem with the page never ends a run."""
        now = time.monotonic()
        if self._record is None or now < self._next_refresh:
            return
        self._render()
        taken = time.monotonic() - now
        self._next_refresh = time.monotonic() + max(REFRESH_SECONDS, taken / REFRESH_SHARE)

    def _render(self) -> None:
        try:
            write_page(self.path)
        except Exception as error:
            log.warning("report.html could not be written (%s: %s); nothing else is affected", type(error).__name__, error)

    def _update(self, stage: Stage, state: StageState, *, seconds: float | None = None) -> None:
        index = self._indices.get(stage.folder)
        if self._record is not None and index is not None:
            self._record.update_stage(index, state, seconds=seconds)

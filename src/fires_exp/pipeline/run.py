"""A run: plan its steps, check what can be checked, estimate what is left, then run step by step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from fires_exp.config.root import Config
from fires_exp.distributed import collectives
from fires_exp.pipeline.planner import Planner, make_plan
from fires_exp.pipeline.preflight.check import check_resources
from fires_exp.pipeline.preflight.estimate import RunEstimate, estimate_run
from fires_exp.pipeline.preflight.sizes import Sizes
from fires_exp.pipeline.preflight.table import estimate_text
from fires_exp.pipeline.resource_errors import resource_errors
from fires_exp.pipeline.run_folder import RunFolder
from fires_exp.pipeline.stage import Stage, Step, Summary
from fires_exp.report.run_record import FINISHED

log = logging.getLogger("fires_exp.pipeline")


def run_recipe(config: Config, run_folder: Path) -> None:
    """Run the steps of the configured recipe and keep the run folder current. A collective: all ranks train and predict, the
    main rank does the rest.

    Whatever ends the run early is written into run.json and onto the page, and is raised.
    """
    folder = RunFolder(run_folder, config)
    with resource_errors(config, None):
        if not collectives.is_main():
            _run(make_plan(config, folder))
            return
        folder.start()
        try:
            with resource_errors(config, None):
                planner = make_plan(config, folder)
                folder.write_bad_rows(planner.bad_rows)
                folder.set_plan(planner.stages, planner.adapters)
                for step in planner.steps:
                    step.check()
                if not any(step.is_dry_run for step in planner.steps):
                    _preflight(planner)
                _run(planner)
        except BaseException as error:
            folder.finish(f"{type(error).__name__}: {error}".strip(": "))
            raise
        folder.finish(FINISHED)


def estimate_plan(planner: Planner) -> tuple[RunEstimate, Sizes]:
    """The estimate of the planned stages, and the sizes that it was made from."""
    sizes = Sizes(planner.factory, planner.config.trainer.processes)
    with collectives.single_process():
        return estimate_run(planner.stages, sizes, planner.config, planner.factory, planner.datasets_read), sizes


def _preflight(planner: Planner) -> None:
    """Log the estimate of the stages that are left, and record it. Raises `ExhaustedError` where this machine cannot hold one."""
    config = planner.config
    estimate, sizes = estimate_plan(planner)
    if estimate.stages:
        planner.folder.note("estimate", estimate.as_json())
        log.info("the run takes:\n%s", estimate_text(estimate))
        check_resources(estimate, planner.stages, sizes, config)


def _run(planner: Planner) -> None:
    if planner.config.plan_only:
        return
    dry_run = next((step for step in planner.steps if step.is_dry_run), None)
    if dry_run is not None:
        _describe_requests(dry_run, planner.folder)
        return
    run_steps(planner.steps, planner.folder)


def run_steps(steps: Sequence[Step], folder: RunFolder) -> None:
    """Run steps in order. A collective."""
    for step in steps:
        if isinstance(step, Stage):
            folder.run_stage(step)
        elif isinstance(step, Summary) and collectives.is_main():
            step.run(folder.path)


def _describe_requests(step: Step, folder: RunFolder) -> None:
    run_steps(step.dry_run_needs, folder)
    if collectives.is_main():
        with collectives.single_process():
            print(step.dry_run())

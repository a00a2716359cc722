"""A run from its configuration to its folder: which stages, in what order, and what they leave in the run folder.

resolved.yaml      the configuration             metrics.jsonl   every logged step of every stage
run.json           commit, versions, timings     metrics.json    the final table
predictions/       one file a policy             completions.jsonl   GRPO's samples with their rewards
instance_scores/   what each instance scores
thoughts.jsonl     the thoughts learned from     aspect_shares.svg   which aspects they name (Figure 3)
set_aside.jsonl    instances without a thought   bad_rows.jsonl  rows left out (dataset.on_bad_row=skip)
report.html        all of it on one page         picture_canary.json, log.txt
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fires_exp.config.schema import Config
from fires_exp.distributed import collectives
from fires_exp.errors import CollapseError
from fires_exp.metrics import instance_scores
from fires_exp.metrics.rows import Evaluation
from fires_exp.metrics.thoughts import aspect_shares
from fires_exp.pipeline.chat_models import check_service
from fires_exp.pipeline.evaluation import evaluate, keep_instance_scores
from fires_exp.pipeline.judge import rehearse_judge
from fires_exp.pipeline.preflight.check import refuse_too_big
from fires_exp.pipeline.preflight.estimate import look_ahead
from fires_exp.pipeline.preflight.text import table
from fires_exp.pipeline.resource_errors import exhaustion_told
from fires_exp.pipeline.stages.baseline import BASELINE, draw_shots, make_baseline_predictions, rehearse_baseline
from fires_exp.pipeline.stages.epitome import NamedScorer, copy_pictures, make_scorer, needs_scorer, skill_report, support_scorer
from fires_exp.pipeline.stages.grpo import make_grpo
from fires_exp.pipeline.stages.predictions import PREDICTIONS, make_predictions
from fires_exp.pipeline.stages.sft import CANARY, make_sft
from fires_exp.pipeline.stages.thoughts import BANK, SET_ASIDE, make_thoughts, rehearse_thoughts
from fires_exp.pipeline.stages.trained_baseline import check_trained_baseline, make_trained_baseline, predict_trained_baseline
from fires_exp.pipeline.workspace import Workspace
from fires_exp.report.page import write_page
from fires_exp.report.plots import alone, stacked_shares
from fires_exp.report.run_record import RunRecord
from fires_exp.report.tables import evaluation_text, shares_table
from fires_exp.storage.artifacts import Artifact, write_atomically
from fires_exp.thinking.bank import read_bank
from fires_exp.training.fit import COMPLETIONS, FACTS, METRICS
from fires_exp.training.loggers.scores import show_scores

log = logging.getLogger("fires_exp.pipeline")

SHARES = "aspect_shares.svg"


def run_recipe(config: Config, run_folder: Path) -> None:
    """Run the recipe's stages, reuse those that are there, write the run folder. Of several ranks all train and answer; the rest
    is the first one's."""
    with exhaustion_told(config, ""):
        work = Workspace(config, run_folder)
        if not collectives.is_first():
            _run(work, run_folder)
            return
        _clear(run_folder)
        record = RunRecord.start(run_folder, config)
        try:
            with exhaustion_told(config, ""):
                _check_before_start(work)
                _tell_what_it_takes(work, record)
                _run(work, run_folder)
        except BaseException as error:
            with suppress(OSError):  # a full disk must not take the place of what went wrong
                _note_policies(work, record)
                record.finish(work.made, status=f"{type(error).__name__}: {error}".strip(": "))
            if isinstance(error, CollapseError):
                log.info("report: %s", write_page(run_folder))
            raise
        _note_policies(work, record)
        record.finish(work.made, status="finished")
        if (run_folder / "metrics.json").is_file():
            log.info("report: %s", write_page(run_folder))


def _note_policies(work: Workspace, record: RunRecord) -> None:
    """The adapters of each policy that the run has, in the order in which they are merged, for `export` and `chat`. Trained
    baselines are no policies."""
    if work.config.trained_baseline.name != "none":
        return
    adapters: list[dict[str, str]] = []
    policies = {"zero_shot": list(adapters)}
    for artifact in work.made:
        if artifact.stage in ("sft", "grpo"):
            adapters.append({"stage": artifact.stage, "key": artifact.key, "folder": str(artifact.folder)})
            policies[artifact.stage] = list(adapters)
    record.note("policies", policies)


def _clear(run_folder: Path) -> None:
    """Take out what an earlier run left here: a run that stops half way must not show another's numbers as its own."""
    bank = (BANK, SET_ASIDE, SHARES)
    for name in (METRICS, "metrics.json", COMPLETIONS, *bank, CANARY, "bad_rows.jsonl", "report.html"):
        (run_folder / name).unlink(missing_ok=True)
    for name in ("predictions", instance_scores.FOLDER):
        shutil.rmtree(run_folder / name, ignore_errors=True)


def _check_before_start(work: Workspace) -> None:
    """What would stop the run later stops it now."""
    config = work.config
    shots = draw_shots(work) if BASELINE in config.recipe.policies else ()
    thoughts = bool({"synthesize", "sft"} & set(config.recipe.stages)) or (bool(shots) and not config.baseline.dry_run)
    if config.teacher.name == "openai" and work.plan.thinks and thoughts:
        check_service(config.teacher)
    if BASELINE in config.recipe.policies:
        check_service(config.baseline)
    if "grpo" in config.recipe.stages and config.reward.judge_weight > 0:
        check_service(config.reward.judge)
    if config.trained_baseline.name != "none":
        check_trained_baseline(work)


def _tell_what_it_takes(work: Workspace, record: RunRecord) -> None:
    """Steps, tokens, memory and disk of what is not finished yet. Raises `ExhaustedError` where this machine has too little.
    Nothing is told of trained baselines, which are models of their own, nor where no stage runs here."""
    config = work.config
    sends = config.baseline.sends and config.teacher.sends and config.reward.judge.sends
    if not sends or config.trained_baseline.name != "none":
        return
    with collectives.alone():
        outlook = look_ahead(work)
    if outlook.stages:
        record.note("ahead", outlook.as_json())
        log.info("what lies ahead:\n%s", table(outlook))
        refuse_too_big(outlook, config)


def _run(work: Workspace, run_folder: Path) -> None:
    stages = work.config.recipe.stages
    if work.config.plan_only:
        return
    first = collectives.is_first()
    if first:
        _write_bad_rows(work, run_folder)
    thinking = work.plan.thinks and bool({"synthesize", "sft"} & set(stages))
    rehearsed = (
        not work.config.baseline.sends or (thinking and not work.config.teacher.sends) or not work.config.reward.judge.sends
    )
    if rehearsed:
        if first:
            with collectives.alone():
                print(_rehearsed(work))
        return
    thoughts = sft = grpo = scorer = None
    trains_baseline = work.config.trained_baseline.name != "none"
    if "train_epitome" in stages:
        epitome = make_scorer(work)
        if first:
            copy_pictures(epitome, run_folder)
            print(skill_report(epitome.folder))
        log.info("reward.support_skill.scorer=%s", epitome.folder)
    if needs_scorer(work.config):
        scorer = support_scorer(work)  # before anything is trained: what is wrong with it shows at once
    if thinking:
        thoughts = make_thoughts(work)
        _keep_thoughts(work, run_folder, thoughts)
    if "sft" in stages:
        sft = make_trained_baseline(work) if trains_baseline else make_sft(work, thoughts)
        _say_trained(sft)
        if not trains_baseline:  # which reads no pictures itself
            _say_canary(sft, run_folder)
    if "grpo" in stages:
        try:
            grpo = make_grpo(work, sft, scorer)
        except CollapseError as error:  # its curves and samples show what happened
            _show_training(run_folder, sft, error.folder)
            raise
    _show_training(run_folder, sft, grpo.folder if grpo else None)
    if "evaluate" in stages:
        adapters = {"zero_shot": [], "sft": [sft], "grpo": [sft, grpo]}
        predictions = {
            policy: _predict(work, run_folder, policy, [adapter for adapter in adapters.get(policy, []) if adapter is not None])
            for policy in work.config.recipe.policies
        }
        if first:
            table = evaluate(work, predictions, scorer.scorer if scorer else None)
            keep_instance_scores(run_folder, predictions, table)
            _write_table(work, run_folder, table, thoughts, scorer)
            show_scores(work.config, run_folder, table)
            print(evaluation_text(table.as_json()))


def _rehearsed(work: Workspace) -> str:
    if not work.config.baseline.sends:
        return rehearse_baseline(work)
    return rehearse_judge(work) if work.config.teacher.sends else rehearse_thoughts(work)


@collectives.first_only
def _keep_thoughts(work: Workspace, run_folder: Path, thoughts: Artifact) -> None:
    """The bank, what has no thought, and Figure 3 of it; a run that does no more prints the figure's numbers."""
    shutil.copyfile(thoughts.folder / BANK, run_folder / BANK)
    if (thoughts.folder / SET_ASIDE).stat().st_size:
        shutil.copyfile(thoughts.folder / SET_ASIDE, run_folder / SET_ASIDE)
    bank = [banked.thought for banked in read_bank(thoughts.folder / BANK).values()]
    shares: dict[str, Mapping[Any, float]] = {aspect.label: of_aspect for aspect, of_aspect in aspect_shares(bank).items()}
    figure = stacked_shares(f"{len(bank)} thoughts", shares, ident="shares", legend=True)
    write_atomically(run_folder / SHARES, alone(figure))
    if work.config.recipe.stages == ["synthesize"]:
        print(f"{shares_table(shares, count=len(bank))}\n{run_folder / SHARES}")


def _predict(work: Workspace, run_folder: Path, policy: str, adapters: Sequence[Artifact]) -> Artifact:
    log.info("answering as %s", policy)
    if policy == BASELINE:
        predictions = make_baseline_predictions(work)
    elif work.config.trained_baseline.name != "none":
        predictions = predict_trained_baseline(work, *adapters)
    else:
        predictions = make_predictions(work, adapters)
    if collectives.is_first():
        (run_folder / "predictions").mkdir(exist_ok=True)
        shutil.copyfile(predictions.folder / PREDICTIONS, run_folder / "predictions" / f"{policy}.jsonl")
    return predictions


def _write_table(
    work: Workspace, run_folder: Path, table: Evaluation, thoughts: Artifact | None, scorer: NamedScorer | None
) -> None:
    facts: dict[str, Any] = {
        "name": work.config.name,
        "dataset": work.test_dataset.name,
        "split": work.config.predict.split,
        "instances": len(work.test_examples),
        "backbone": work.config.trained_model,
        "reward": work.config.reward.name,
        "scorer": scorer.scorer.name if scorer else None,
        "judge": work.config.reward.judge.model if work.config.reward.judge_weight > 0 else None,
        **table.as_json(),
    }
    if BASELINE in work.config.recipe.policies:
        facts |= {"baseline": work.config.baseline.model, "shots": [example.id for example in draw_shots(work)]}
    if work.config.trained_baseline.name != "none":
        facts["baseline"] = work.config.trained_baseline.name
    if thoughts is not None:
        bank = [banked.thought for banked in read_bank(thoughts.folder / BANK).values()]
        facts["teacher"] = work.config.teacher.name
        facts["teacher_aspect_shares"] = {aspect.value: shares for aspect, shares in aspect_shares(bank).items()}
    write_atomically(run_folder / "metrics.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


@collectives.first_only
def _show_training(run_folder: Path, sft: Artifact | None, grpo: Path | None) -> None:
    """The stages' metrics.jsonl one after the other, each line with its stage, and GRPO's samples; of reused stages too."""
    folders = {"sft": sft.folder if sft else None, "grpo": grpo}
    with (run_folder / METRICS).open("w", encoding="utf-8") as file:
        for stage, folder in folders.items():
            for line in (folder / METRICS).read_text(encoding="utf-8").splitlines() if folder else ():
                file.write(json.dumps({"stage": stage, **json.loads(line)}) + "\n")
    if grpo and (grpo / COMPLETIONS).is_file():
        shutil.copyfile(grpo / COMPLETIONS, run_folder / COMPLETIONS)


@collectives.first_only
def _say_trained(sft: Artifact) -> None:
    facts = json.loads((sft.folder / FACTS).read_text())
    log.info("sft trained %s parameters in %d steps", f"{facts['trainable_parameters']:,}", facts["steps"])


@collectives.first_only
def _say_canary(sft: Artifact, run_folder: Path) -> None:
    shutil.copyfile(sft.folder / CANARY, run_folder / CANARY)
    canary = json.loads((sft.folder / CANARY).read_text())
    if canary is None:
        log.info("picture canary: no two instances with frames of one size, nothing to swap")
    elif sft.reused:
        log.info(
            "picture canary (when it was trained): swapped frames changed log-probabilities by %.4f nats a token",
            canary["nats_per_token"],
        )


def _write_bad_rows(work: Workspace, run_folder: Path) -> None:
    rows = (*work.dataset.bad_rows, *(work.test_dataset.bad_rows if work.config.test_dataset else ()))
    if rows:
        log.info("%d bad rows were left out; they are listed in %s", len(rows), run_folder / "bad_rows.jsonl")
        lines = [{"file": str(row.file), "line": row.line, "problem": row.problem, "remedy": row.remedy} for row in rows]
        write_atomically(run_folder / "bad_rows.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

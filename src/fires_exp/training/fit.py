"""Training a module to the end, whatever happens in between: metrics, checkpoints, going on."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.loggers import Logger

from fires_exp.config.schema import Config, GrpoConfig, SftConfig
from fires_exp.distributed import collectives
from fires_exp.errors import TrainingError
from fires_exp.policy.adapters import add_adapter, parameters_hash, save_activation_memory, save_adapter
from fires_exp.policy.policy import Policy
from fires_exp.storage.artifacts import whole_lines, write_atomically
from fires_exp.training import preemption
from fires_exp.training.checkpoints import CheckpointAndStop, checkpoint_steps, clear_checkpoints, newest_checkpoint
from fires_exp.training.loggers.factory import open_logger, tell_again
from fires_exp.training.step_loader import StepLoader, step_plan
from fires_exp.training.stepped_module import AdapterModule, SteppedModule
from fires_exp.training.strategies import strategy_for

log = logging.getLogger("fires_exp.pipeline")

METRICS = "metrics.jsonl"
COMPLETIONS = "completions.jsonl"
ADAPTER = "adapter"
FACTS = "facts.json"


class JsonLinesLogger(Logger):
    """Every logged step as one line of `metrics.jsonl`; lines of steps that a restart will do again are taken out first."""

    def __init__(self, path: Path, steps_done: int) -> None:
        super().__init__()
        self.path = path
        keep_steps(path, steps_done)

    @property
    def name(self) -> str:
        return "jsonl"

    @property
    def version(self) -> int:
        return 0

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """`resolved.yaml` holds them."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = {"step": step, **{name: value for name, value in metrics.items() if name != "epoch"}}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def keep_steps(path: Path, steps_done: int) -> None:
    """Take out of a file with a line a step, or several, what a restart will write again."""
    kept = [line for line in whole_lines(path) if json.loads(line)["step"] < steps_done]
    write_atomically(path, "".join(line + "\n" for line in kept))


class StageBar(TQDMProgressBar):
    """One bar for the whole stage, under the stage's name."""

    def __init__(self, stage: str) -> None:
        super().__init__(refresh_rate=1)
        self.stage = stage

    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(self.stage)

    def get_metrics(self, *args: Any) -> dict[str, Any]:
        return {name: value for name, value in super().get_metrics(*args).items() if name != "v_num"}


def fresh_adapter(policy: Policy, config: SftConfig | GrpoConfig, seed: int) -> None:
    """Put the stage's own adapter on a policy, recomputing activations where the configuration says so."""
    add_adapter(policy, config.lora, seed)
    native = isinstance(config, GrpoConfig) and config.scoring == "native"  # the native pass recomputes by itself
    if config.gradient_checkpointing and not native:
        save_activation_memory(policy)


def training_plan(config: SftConfig | GrpoConfig, count: int, seed: int) -> list[list[int]]:
    """Which of `count` instances make up each of the stage's batches."""
    return step_plan(count, batch_size=config.batch_size, epochs=config.epochs, max_steps=config.max_steps, seed=seed)


def fit(
    module: AdapterModule,
    loader: StepLoader[Any],
    folder: Path,
    config: Config,
    *,
    stage: str,
    run_folder: Path,
    checkpoint_every_steps: int,
) -> None:
    """Train, going on from the folder's last checkpoint if there is one; leave `adapter/` and `facts.json` in the folder.
    A module that stopped early leaves its last good checkpoint instead: the caller says why.

    Raises `TrainingError` where the adapter did not change or the frozen weights did.
    """
    device = module.policy.device
    frozen_before = parameters_hash(module.policy, trainable=False)
    adapter_before = parameters_hash(module.policy, trainable=True)
    collectives.check_same(f"the weights that {stage} starts from", f"{frozen_before[:12]}/{adapter_before[:12]}")
    take_steps(
        module,
        loader,
        folder,
        config,
        stage=stage,
        run_folder=run_folder,
        checkpoint_every_steps=checkpoint_every_steps,
    )
    if module.stopped_early:
        return
    adapter_after = parameters_hash(module.policy, trainable=True)
    collectives.check_same(f"the adapter that {stage} trained", adapter_after[:12])
    if parameters_hash(module.policy, trainable=False) != frozen_before:
        raise TrainingError(f"{stage} changed weights that it must not change: a defect in the set-up")
    if not module.had_gradient:
        log.warning("%s: no step had a gradient, so nothing was learned: every group's rewards were equal", stage)
    elif adapter_after == adapter_before:
        raise TrainingError(
            f"{stage} had gradients but its adapter did not change in {len(loader)} steps: a defect in the set-up"
        )
    module.policy.to(device)  # Lightning leaves it on the CPU
    if not collectives.is_main():
        return
    save_adapter(module.policy, folder / ADAPTER)
    facts = {
        "steps": len(loader),
        "trainable_parameters": module.trainable_count,
        "adapter_sha256": adapter_after,
        "frozen_sha256": frozen_before,
    }
    write_atomically(folder / FACTS, json.dumps(facts, indent=2) + "\n")
    clear_checkpoints(folder)


def take_steps(
    module: SteppedModule,
    loader: StepLoader[Any],
    folder: Path,
    config: Config,
    *,
    stage: str,
    run_folder: Path,
    checkpoint_every_steps: int,
) -> None:
    """The loader's steps, to the last or until the module stops early, going on from the folder's last checkpoint if there is
    one; the checkpoint stays there."""
    checkpoint = collectives.broadcast(newest_checkpoint(folder) if collectives.is_main() else None)
    steps_done = checkpoint_steps(checkpoint)
    if steps_done:
        log.info("%s: going on after step %d of %d", stage, steps_done, len(loader))
    loggers = _open_loggers(config, folder, run_folder, stage, steps_done) if collectives.is_main() else []
    keeper = CheckpointAndStop(
        folder, stage=stage, every_steps=checkpoint_every_steps, keep=config.trainer.keep_checkpoints, total_steps=len(loader)
    )
    callbacks: list[Callback] = [keeper]
    if config.trainer.progress:
        callbacks.append(StageBar(stage))
    together = collectives.world_size() > 1
    trainer = pl.Trainer(
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices if together else 1,
        num_nodes=config.trainer.num_nodes if together else 1,
        strategy=strategy_for(config.trainer.strategy, distributed=together),
        deterministic="warn" if config.trainer.deterministic else False,
        max_epochs=1,
        logger=loggers or False,
        callbacks=callbacks,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=config.trainer.progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    try:
        with preemption.deferred():
            trainer.fit(module, train_dataloaders=loader, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=True)
    except SystemExit as exit:
        raise KeyboardInterrupt from exit  # Lightning turns an interrupt into an exit of its own
    finally:
        for logger in loggers:
            logger.finalize("success")
    collectives.barrier()  # so that all read the same metrics.jsonl
    if not module.stopped_early and module.steps_done != len(loader):
        raise KeyboardInterrupt


def _open_loggers(config: Config, folder: Path, run_folder: Path, stage: str, steps_done: int) -> list[Logger]:
    """metrics.jsonl in the stage's folder, and the configured logger in the run's, which is told of the steps done so far."""
    own = JsonLinesLogger(folder / METRICS, steps_done)
    chosen = open_logger(config, stage=stage, stage_folder=folder, run_folder=run_folder)
    tell_again(chosen, config.logger, metrics=own.path, completions=folder / COMPLETIONS)
    return [own, chosen]

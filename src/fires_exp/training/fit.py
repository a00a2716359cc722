"""The training loop of a stage: steps, checkpoints, logging, and continuing where an interrupted run left off."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.loggers import Logger

from fires_exp.config.training import GrpoConfig, SftConfig, TrainerConfig
from fires_exp.distributed import collectives
from fires_exp.errors import TrainingError
from fires_exp.policy.adapters import add_adapter, enable_gradient_checkpointing, parameters_hash, save_adapter
from fires_exp.policy.policy import Policy
from fires_exp.storage.files import complete_lines, write_atomically
from fires_exp.training import preemption
from fires_exp.training.checkpoints import CheckpointAndStop, checkpoint_steps, clear_checkpoints, newest_checkpoint
from fires_exp.training.step_loader import StepLoader, step_plan
from fires_exp.training.stepped_module import AdapterModule, SteppedModule
from fires_exp.training.strategies import strategy_for

log = logging.getLogger("fires_exp.training")

METRICS = "metrics.jsonl"
COMPLETIONS = "completions.jsonl"
ADAPTER = "adapter"
FACTS = "facts.json"


class OpenLoggers(Protocol):
    """Opens the loggers that a stage reports its steps to, beside its own metrics.jsonl."""

    def __call__(self, stage: str, stage_folder: Path) -> list[Logger]: ...


class JsonLinesLogger(Logger):
    """Writes every logged step as one line of `metrics.jsonl`. Lines of steps that will be repeated after a restart are removed
    when it opens."""

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
    """Remove the rows of steps that a restart will repeat from a file with one or more rows a step."""
    rows = [line for line in complete_lines(path) if json.loads(line)["step"] < steps_done]
    write_atomically(path, "".join(line + "\n" for line in rows))


class StageBar(TQDMProgressBar):
    """One progress bar for all steps of a stage, labeled with its name."""

    def __init__(self, stage: str) -> None:
        super().__init__(refresh_rate=1)
        self.stage = stage

    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(self.stage)

    def get_metrics(self, *args: Any) -> dict[str, Any]:
        return {name: value for name, value in super().get_metrics(*args).items() if name != "v_num"}


def fresh_adapter(policy: Policy, config: SftConfig | GrpoConfig, seed: int) -> None:
    """Add the stage's new adapter to a policy, with gradient checkpointing where the configuration asks for it."""
    add_adapter(policy, config.lora, seed)
    native = isinstance(config, GrpoConfig) and config.scoring == "native"  # the native pass recomputes by itself
    if config.gradient_checkpointing and not native:
        enable_gradient_checkpointing(policy)


def training_plan(config: SftConfig | GrpoConfig, count: int, seed: int) -> list[list[int]]:
    """Indices, out of `count` instances, of each of the stage's batches."""
    return step_plan(count, batch_size=config.batch_size, epochs=config.epochs, max_steps=config.max_steps, seed=seed)


@dataclass(frozen=True, kw_only=True)
class TrainingLoop:
    """Runs the steps of a module on the configured devices. `open_loggers` is called on the main rank."""

    trainer: TrainerConfig
    open_loggers: OpenLoggers

    def fit(
        self, module: AdapterModule, loader: StepLoader[Any], folder: Path, *, stage: str, checkpoint_every_steps: int
    ) -> None:
        """Train an adapter, from the folder's last checkpoint if there is one; leave `adapter/` and `facts.json` in the folder.
        A module that stopped early leaves its last good checkpoint instead; the caller reports the reason.

        Raises `TrainingError` where the adapter did not change or the frozen weights did.
        """
        device = module.policy.device
        frozen_before = parameters_hash(module.policy, trainable=False)
        adapter_before = parameters_hash(module.policy, trainable=True)
        collectives.check_same(f"the weights that {stage} starts from", f"{frozen_before[:12]}/{adapter_before[:12]}")
        self.take_steps(module, loader, folder, stage=stage, checkpoint_every_steps=checkpoint_every_steps)
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
        self, module: SteppedModule, loader: StepLoader[Any], folder: Path, *, stage: str, checkpoint_every_steps: int
    ) -> None:
        """Run the loader's steps, to the last or until the module stops early, from the folder's last checkpoint if there is
        one; the checkpoint stays in the folder."""
        checkpoint = collectives.broadcast(newest_checkpoint(folder) if collectives.is_main() else None)
        steps_done = checkpoint_steps(checkpoint)
        if steps_done:
            log.info("%s: continuing after step %d of %d", stage, steps_done, len(loader))
        loggers: list[Logger] = []
        if collectives.is_main():
            loggers.append(JsonLinesLogger(folder / METRICS, steps_done))
            loggers += self.open_loggers(stage, folder)
        trainer = self._lightning_trainer(stage, folder, loggers, checkpoint_every_steps, total_steps=len(loader))
        try:
            with preemption.deferred():
                trainer.fit(
                    module, train_dataloaders=loader, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=True
                )
        except SystemExit as exit:
            raise KeyboardInterrupt from exit  # Lightning turns an interrupt into an exit of its own
        finally:
            for logger in loggers:
                logger.finalize("success")
        collectives.barrier()  # so that all ranks read the same metrics.jsonl
        if not module.stopped_early and module.steps_done != len(loader):
            raise KeyboardInterrupt

    def _lightning_trainer(
        self, stage: str, folder: Path, loggers: list[Logger], checkpoint_every_steps: int, *, total_steps: int
    ) -> pl.Trainer:
        config, distributed = self.trainer, collectives.world_size() > 1
        callbacks: list[Callback] = [
            CheckpointAndStop(
                folder, stage=stage, every_steps=checkpoint_every_steps, keep=config.keep_checkpoints, total_steps=total_steps
            )
        ]
        if config.progress:
            callbacks.append(StageBar(stage))
        return pl.Trainer(
            accelerator=config.accelerator,
            devices=config.devices if distributed else 1,
            num_nodes=config.num_nodes if distributed else 1,
            strategy=strategy_for(config.strategy, distributed=distributed),
            deterministic="warn" if config.deterministic else False,
            max_epochs=1,
            logger=loggers or False,
            callbacks=callbacks,
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_progress_bar=config.progress,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=folder,
        )

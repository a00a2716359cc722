"""What is done with a model once it is there: it is exported, or talked to."""

from __future__ import annotations

import sys
from pathlib import Path

from fires_exp.chat.session import Listener
from fires_exp.chat.terminal import talk_in_terminal
from fires_exp.config.root import Config
from fires_exp.errors import ConfigError
from fires_exp.export.export import export
from fires_exp.export.load_run import read_trained, with_model_of
from fires_exp.pipeline.workspace import Workspace


def use_model(config: Config, run_folder: Path) -> None:
    """`recipe=export` or `recipe=chat`."""
    if config.trainer.strategy != "single":
        raise ConfigError(f"recipe={config.recipe.name} runs in one process; choose trainer=cpu or trainer=gpu")
    trained = None
    if config.adapter is not None:
        trained = read_trained(config.adapter, Workspace(config, run_folder).artifacts)
        config = with_model_of(config, trained)
    work = Workspace(config, run_folder)
    if "export" in config.recipe.stages:
        assert trained is not None
        print(export(work, trained))
        return
    name = f"{trained.policy} of {trained.run_folder}" if trained else "zero_shot"
    _talk(work, trained.adapters if trained else (), f"{config.backbone.name}, {name}")


def _talk(work: Workspace, adapters: tuple[Path, ...], name: str) -> None:
    config = work.config.chat
    if config.web:
        try:
            from fires_exp.chat.web import serve
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"chat.web=true needs packages that are not installed: pip install fires-exp[web] ({error})"
            ) from None
    listener = Listener(work, work.policy(adapters), name)
    try:
        if config.web:
            serve(listener, config.host, config.port)
        else:
            talk_in_terminal(listener, input, _write)
    finally:
        listener.close()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

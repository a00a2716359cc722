"""`fires-exp chat`: a conversation with a run's model, or with an untrained backbone."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from fires_exp.chat.session import ChatModel
from fires_exp.chat.terminal import chat_in_terminal
from fires_exp.cli.compose import compose_command
from fires_exp.cli.console import command, log_to_terminal
from fires_exp.cli.policies import policy_factory
from fires_exp.config.commands import ChatCommandConfig
from fires_exp.errors import ConfigError
from fires_exp.export.load_run import model_config, read_trained


@command
def main(arguments: list[str]) -> None:
    log_to_terminal(logging.INFO)
    config = compose_command("chat", ChatCommandConfig, arguments)
    if config.web:
        _check_web_packages()
    model = chat_model(config)
    try:
        if config.web:
            from fires_exp.chat.web import serve

            serve(model, config.host, config.port)
        else:
            chat_in_terminal(model, input, _write)
    finally:
        model.close()


def chat_model(config: ChatCommandConfig) -> ChatModel:
    """The model of the run that `adapter` names; the untrained backbone where it is null."""
    if config.adapter is None:
        factory, policy = policy_factory(config, config.trainer, config.paths), "zero_shot"
        adapters: tuple[Path, ...] = ()
    else:
        trained = read_trained(config.adapter, Path(config.paths.artifacts).expanduser().absolute())
        factory = policy_factory(model_config(trained, config.backbone), config.trainer, config.paths)
        adapters, policy = trained.adapters, f"{trained.policy} of {trained.run_folder}"
    return ChatModel(
        factory,
        factory.build(adapters),
        config.decoding,
        seed=config.seed,
        max_video_bytes=config.max_video_megabytes * 2**20,
        name=f"{factory.backbone.name}, {policy}",
    )


def _check_web_packages() -> None:
    """Fails before the model is loaded, which can take minutes."""
    try:
        import fires_exp.chat.web  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(f"web=true needs packages that are not installed: pip install fires-exp[web] ({error})") from None


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

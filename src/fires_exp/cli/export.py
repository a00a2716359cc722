"""`fires-exp export`: a run's model in the format of Hugging Face."""

from __future__ import annotations

import logging
from pathlib import Path

from fires_exp.cli.compose import compose_command
from fires_exp.cli.console import command, log_to_terminal
from fires_exp.cli.policies import policy_factory
from fires_exp.config.commands import ExportCommandConfig
from fires_exp.export.export import export
from fires_exp.export.load_run import model_config, read_trained


@command
def main(arguments: list[str]) -> None:
    log_to_terminal(logging.INFO)
    config = compose_command("export", ExportCommandConfig, arguments)
    trained = read_trained(config.adapter, Path(config.paths.artifacts).expanduser().absolute())
    model = model_config(trained, config.backbone)
    folder = trained.run_folder / "model" if config.output is None else Path(config.output).expanduser()
    print(export(trained, policy_factory(model, config.trainer, config.paths), model.predict.decoding, folder))

"""`fires-exp`: the first argument names a command; without one, the arguments are overrides of a run."""

from __future__ import annotations

import difflib
import importlib
import os
import sys

from fires_exp.cli.console import print_error, quiet_libraries
from fires_exp.cli.help import COMMANDS, help_text
from fires_exp.errors import ExitCode


def main() -> int:
    """The exit code of the command line; `fires_exp.errors.ExitCode` lists the codes."""
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    return code


def _run() -> int:
    name, *rest = sys.argv[1:] or [""]
    wants_help = bool({"--help", "-h"} & set(sys.argv[1:]))
    if name in COMMANDS:
        return _run_command(name, rest, wants_help=wants_help)
    if name == "help" or wants_help:
        print(help_text())
        return ExitCode.DONE
    if name[:1].isalpha() and "=" not in name:
        matches = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f", did you mean {matches[0]}?" if matches else ";"
        print_error(f"{name}: unknown command{hint} fires-exp --help lists the commands; an override is written key=value")
        return ExitCode.USER_ERROR
    return int(importlib.import_module("fires_exp.cli.train").main(sys.argv[1:]))


def _run_command(name: str, arguments: list[str], *, wants_help: bool) -> int:
    """Import a command only once it is chosen: the libraries that some of them need take seconds to import."""
    command = COMMANDS[name]
    if wants_help and command.example is not None:
        importlib.import_module("fires_exp.cli.command_help").print_command_help(name)
        return ExitCode.DONE
    quiet_libraries()
    return int(importlib.import_module(f"fires_exp.cli.{command.module}").main(arguments))

"""What a mistake in a configuration was meant to be: one line for each error of Hydra and OmegaConf, with the nearest name."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from fires_exp.config.options import group_of, groups, is_optional, keys

LIST = "docs/config.md lists every key and option"
# a group that the default run has no option of: it is added with a plus
ADDED_GROUPS = ("experiment", "sweep")

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """One line for an error that composing `overrides` raised: what was written, the nearest name, where the list is."""
    cause = error.__cause__
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        return unknown_option(group, option, error.options or ())
    if isinstance(error, OverrideParseException):
        return f"{error.override}: not an override ({_problem(text)}); write key=value, with quotes around special characters"
    if isinstance(cause, OmegaConfBaseException):
        written = re.match(r"Error merging override [^=]*=(.*)", text)
        return explain_tree(cause, written[1] if written else None)
    if isinstance(error, OmegaConfBaseException):
        return explain_tree(error, None)
    if isinstance(error, ConfigCompositionException):
        if match := re.match(r"Could not override '([^']+)'", text):
            return unknown_key(match[1], _value_of(match[1], overrides))
        if match := re.match(r"Multiple values for ([\w/]+)", text):
            return f"+{match[1]}={_value_of(f'+{match[1]}', overrides)}: write {match[1]}= without the plus, once"
        if match := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '([^']+)'", text):
            return f"{match[1]}: several values are a sweep; add -m for one run each, or write a list as [a,b]"
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__


def explain_tree(error: OmegaConfBaseException, written: object) -> str:
    """One line for an error of OmegaConf at a key; `written` is the value that was given, None if it is not known."""
    key = re.sub(r"\[\d+\]$", "", error.full_key or "")
    if isinstance(error, ConfigKeyError | ConfigAttributeError) and key:
        return unknown_key(key, None)
    if isinstance(error, ValidationError) and (declared := keys().get(key)) is not None:
        return _wrong_value(key, written, declared[0])
    return f"{key or 'configuration'}: {str(error).strip().splitlines()[0]}; {LIST}"


def unknown_option(group: str, option: str, options: Iterable[str]) -> str:
    """One line for an option that a group does not have."""
    plus = "+" if group in ADDED_GROUPS else ""
    near = _nearest(option, options)
    meant = f"did you mean {plus}{group}={near}? " if near else ""
    where = f"the options are {', '.join(options)}; {LIST}" if not near and len(list(options)) < 10 else LIST
    return f"{plus}{group}={option}: {group} has no such option; {meant}{where}"


def unknown_key(key: str, value: str | None) -> str:
    """One line for a key, or a group of options, that does not exist."""
    ending = "" if value is None else f"={value}"
    if key.startswith("hydra.") or key.startswith("hydra/"):
        return f"{key}{ending}: Hydra has no such key; python -m fires_exp --cfg hydra prints those that it has"
    if key in ADDED_GROUPS:
        return f"{key}{ending}: write +{key}{ending or '=<name>'}, with a plus"
    near = nearest_key(key)
    meant = f"did you mean {near}{ending}? " if near else ""
    return f"{key}: unknown key; {meant}{LIST}"


def nearest_key(key: str) -> str | None:
    """The key or group whose name is most like `key`: among the keys beside it, then anywhere; None if none is alike."""
    known = list(keys())
    parent, _, leaf = key.rpartition(".")
    beside = [name for name in known if name.rpartition(".")[0] == parent]
    if near := _nearest(leaf, [name.rpartition(".")[2] for name in beside]):
        return f"{parent}.{near}" if parent else near
    if not parent and (near := _nearest(leaf, ADDED_GROUPS)):
        return f"+{near}"
    if near := _nearest(key, [*known, *groups()]):
        return near
    same_leaf = [name for name in known if name.rpartition(".")[2] == leaf]
    return same_leaf[0] if same_leaf else None


def _wrong_value(key: str, written: object, annotation: Any) -> str:
    shown = key if written is None else f"{key}={written}"
    null = ", or null" if is_optional(annotation) else ""
    if (choices := _choices(annotation)) is not None:
        near = None if written is None else _nearest(str(written).strip("[]"), choices)
        return f"{shown}: choose from {', '.join(choices)}{null}" + (f"; did you mean {near}?" if near else "")
    if group_of(annotation) is not None:
        return f"{shown}: write single keys, such as {next(name for name in keys() if name.startswith(f'{key}.'))}="
    if typing.get_origin(annotation) is list:
        return f"{shown}: write a list, such as [a,b]"
    for kind, words in _WORDS.items():
        if kind is annotation or kind in typing.get_args(annotation):
            return f"{shown}: write {words}{null}"
    return f"{shown}: not a value of this key; {LIST}"


def _choices(annotation: Any) -> list[str] | None:
    """The names of an enumeration, also of a list of its members."""
    for part in (annotation, *typing.get_args(annotation)):
        if isinstance(part, type) and issubclass(part, Enum):
            return [str(member.value) for member in part]
    return None


def _nearest(name: str, names: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, list(names), n=1)), None)


def _problem(text: str) -> str:
    lines = [line for line in text.splitlines() if line and not line.startswith(("Error parsing override", "See https"))]
    return lines[0] if lines else "it cannot be parsed"


def _value_of(key: str, overrides: Sequence[str]) -> str | None:
    return next((value for name, _, value in (override.partition("=") for override in overrides) if name == key), None)

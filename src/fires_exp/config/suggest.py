"""The line that a mistake in a configuration gets: what was written, the nearest name, and where all names are listed.

`schema` is the root of the configuration, `key_list` the sentence that says where its keys are listed.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from fires_exp.config.field import Group
from fires_exp.config.options import group_of, groups, is_optional, keys

ADDED_GROUPS = ("experiment", "sweep")
"""Groups that the default run selects no option of: they are added with a plus."""

_LISTED_AT_MOST = 10
_ALIKE = 0.4
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def explain(error: Exception, overrides: Sequence[str], schema: type[Group], key_list: str) -> str:
    """One line for an error of Hydra or OmegaConf that composing `overrides` raised."""
    text = str(error)
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        return unknown_option(group, option, error.options or (), key_list)
    if isinstance(error, OverrideParseException):
        if "=" not in error.override:
            return f"{error.override}: write key=value; {key_list}"
        return f"{error.override}: {_parse_problem(text)}; put quotes around a value with special characters"
    if isinstance(cause, OmegaConfBaseException):
        return explain_tree(cause, _value_of(cause.full_key or "", overrides), schema, key_list)
    if isinstance(error, ConfigCompositionException):
        if match := re.match(r"Could not override '([^'@]+)", text):
            return unknown_key(match[1], _value_of(match[1], overrides), schema, key_list)
        if match := re.match(r"Multiple values for ([\w/]+)", text):
            return f"{match[1]} has several options on the command line; write {match[1]}=<option> once, without a plus"
        if match := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '([^']+)'", text):
            return f"{match[1]}: several values are a sweep; add -m for one run each, or write a list as [a,b]"
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__


def explain_tree(error: OmegaConfBaseException, written: object, schema: type[Group], key_list: str) -> str:
    """One line for an error of OmegaConf at a key; `written` is the value there, None if it is not known."""
    key = re.sub(r"\[\d+\]$", "", error.full_key or "")
    if isinstance(error, ConfigKeyError | ConfigAttributeError) and key:
        return unknown_key(key, written, schema, key_list)
    known = keys(schema)
    if isinstance(error, ValidationError) and key in known:
        return _wrong_value(key, written, known)
    return f"{key or 'configuration'}: {str(error).strip().splitlines()[0]}; {key_list}"


def unknown_option(group: str, option: str, options: Sequence[str], key_list: str) -> str:
    """One line for an option that a group does not have."""
    plus = "+" if group in ADDED_GROUPS else ""
    if not options:
        near = _nearest(group, groups())
        return f"{group}={option}: no such group" + (f"; did you mean {near}={option}? " if near else "; ") + key_list
    if near := _nearest(option, options):
        return f"{plus}{group}={option}: no such option; did you mean {plus}{group}={near}? {key_list}"
    listed = f"choose from {', '.join(options)}" if len(options) <= _LISTED_AT_MOST else key_list
    return f"{plus}{group}={option}: no such option; {listed}"


def unknown_key(key: str, value: object, schema: type[Group], key_list: str) -> str:
    """One line for a key, or a group of options, that does not exist."""
    ending = "" if value is None else f"={value}"
    if key.startswith(("hydra.", "hydra/")):
        return f"{key}{ending}: Hydra has no such key; fires-exp --cfg hydra prints its keys"
    if key in ADDED_GROUPS:
        return f"{key}{ending}: write +{key}{ending or '=<name>'}, with a plus"
    near, known = nearest_key(key, schema), keys(schema)
    if near in known and group_of(known[near][0]) is not None and near not in groups():
        ending = ""  # a group of keys takes no value
    return f"{key}: unknown key" + (f"; did you mean {near}{ending}? " if near else "; ") + key_list


def nearest_key(key: str, schema: type[Group]) -> str | None:
    """The key or group that is most like `key`: among the keys beside it, then everywhere; None if none is alike."""
    if "/" in key:
        return _nearest(key, groups())
    known = list(keys(schema))
    parent, _, leaf = key.rpartition(".")
    beside = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == parent]
    if near := _nearest(leaf, beside):
        return f"{parent}.{near}" if parent else near
    if not parent and (near := _nearest(leaf, ADDED_GROUPS)):
        return f"+{near}"
    # a common parent makes any two keys alike, so their last parts must be alike too
    if near := _nearest(key, [name for name in [*known, *groups()] if _likeness(leaf, name.rpartition(".")[2]) > _ALIKE]):
        return near
    return next((name for name in known if name.rpartition(".")[2] == leaf), None)


def _wrong_value(key: str, written: object, known: dict[str, Any]) -> str:
    annotation = known[key][0]
    shown = key if written is None else f"{key}={written}"
    null = ", or null" if is_optional(annotation) else ""
    if (choices := _choices(annotation)) is not None:
        names = [] if written is None else re.split(r"[\s,]+", str(written).strip("[]"))
        near = next((_nearest(name, choices) for name in names if name not in choices), None)
        return f"{shown}: choose from {', '.join(choices)}{null}" + (f"; did you mean {near}?" if near else "")
    if group_of(annotation) is not None:
        return f"{shown}: write single keys, such as {next(name for name in known if name.startswith(f'{key}.'))}="
    if typing.get_origin(annotation) is list:
        return f"{shown}: write a list, such as [a,b]"
    words = next((words for kind, words in _WORDS.items() if kind in (annotation, *typing.get_args(annotation))), "another value")
    return f"{shown}: write {words}{null}"


def _choices(annotation: Any) -> list[str] | None:
    """The names of an enumeration, also of a list of its members; None for another type."""
    for part in (annotation, *typing.get_args(annotation)):
        if isinstance(part, type) and issubclass(part, Enum):
            return [str(member.value) for member in part]
    return None


def _nearest(name: str, names: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, list(names), n=1)), None)


def _likeness(name: str, other: str) -> float:
    """From 0 to 1, as difflib measures it."""
    return difflib.SequenceMatcher(None, name, other).ratio()


def _parse_problem(text: str) -> str:
    """Hydra's own problem without its link and advice."""
    lines = [line for line in text.splitlines() if line and not line.startswith(("Error parsing override", "See https"))]
    return lines[0] if lines else "cannot be parsed"


def _value_of(key: str, overrides: Sequence[str]) -> str | None:
    key = re.sub(r"\[\d+\]$", "", key)
    pairs = (override.lstrip("+~").partition("=") for override in overrides)
    return next((value for name, _, value in pairs if name == key), None)

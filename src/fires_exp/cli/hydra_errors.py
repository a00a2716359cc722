"""Errors of Hydra and OmegaConf as one line: the override, what is wrong with it, the nearest name, where all names are
listed."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Collection, Iterator, Sequence

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from fires_exp.cli.conf_files import groups

LISTED_AT_MOST = 12  # options in a message; `fires-exp --help` lists the rest


def explain(error: Exception, overrides: Sequence[str], schema: type, key_list: str) -> str:
    """One line for an error of composing `overrides`. `key_list` says where the keys of `schema` are listed."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_option(error.missing_cfg_file, error.options or (), overrides)
    if isinstance(error, OverrideParseException):
        return _unreadable_override(error)
    text = str(error)
    if text.startswith("Ambiguous value"):
        override = text.partition("'")[2].partition("'")[0]
        return f"{override}: a list of values is a sweep, which needs -m; one value that is a list is written in [brackets]"
    if "No match in the defaults list" in text:
        return _group_without_default(text, overrides)
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        key = cause.full_key or ""
        problem = cause.msg.strip().splitlines()[0] if cause.msg else str(cause).splitlines()[0]
        if " not in '" in problem or "not in struct" in problem:
            return unknown_key(key, schema, key_list)
        return f"{_override_of(key, overrides)}: {problem}; {key_list}"
    return text.strip().splitlines()[0]


def unknown_key(key: str, schema: type, key_list: str) -> str:
    """One line for a key that the schema lacks."""
    if key.startswith("hydra."):
        return f"{key}: Hydra has no key of this name; fires-exp --cfg hydra lists its keys"
    return f"{key}: unknown key{suggestion(key, [*keys_of(schema), *groups()], key_list)}"


def unknown_keys(tree: object, schema: type) -> list[str]:
    """Keys of a composed tree that the schema lacks: an override with + adds any key, also a misspelled one."""
    known = set(keys_of(schema))
    return [key for key in _keys_of_tree(tree, "") if key not in known and key.rpartition(".")[0] in {"", *known}]


def keys_of(schema: type, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a dataclass of dataclasses, groups of keys included."""
    for name, kind in typing.get_type_hints(schema).items():
        if typing.get_origin(kind) is typing.ClassVar:
            continue
        yield prefix + name
        for part in (kind, *typing.get_args(kind)):
            if isinstance(part, type) and dataclasses.is_dataclass(part):
                yield from keys_of(part, f"{prefix}{name}.")


def nearest(name: str, names: Collection[str]) -> list[str]:
    """The names that look most like this one, best first: of dotted keys, those with the same last part.

    >>> nearest("beta", ["grpo.beta", "grpo.epochs"])
    ['grpo.beta']
    """
    names = tuple(dict.fromkeys(names))
    same_leaf = [other for other in names if other.rpartition(".")[2] == name.rpartition(".")[2]][:3]
    same_depth = [other for other in names if other.count(".") == name.count(".")]
    close = (difflib.get_close_matches(name, same_depth, n=1) or difflib.get_close_matches(name, names, n=1))[:1]
    return close or same_leaf if "." in name else same_leaf or close


def suggestion(name: str, names: Collection[str], otherwise: str) -> str:
    """The end of a message about an unknown name: the nearest names, if any, then where all of them are listed."""
    matches = nearest(name, names)
    return f", did you mean {' or '.join(matches)}? {otherwise}" if matches else f"; {otherwise}"


def _unknown_option(file: str, options: Sequence[str], overrides: Sequence[str]) -> str:
    group, _, option = file.rpartition("/")
    override = next((text for text in overrides if text.partition("=")[2] == option and text.lstrip("+").startswith(group)), file)
    if not options:
        return f"{override}: unknown group{suggestion(group, groups(), 'the groups are the folders of conf/')}"
    listed = f"write one of {', '.join(options)}" if len(options) <= LISTED_AT_MOST else "fires-exp --help lists them"
    return f"{override}: unknown option of {group}{suggestion(option, options, listed)}"


def _unreadable_override(error: OverrideParseException) -> str:
    if "=" not in error.override:
        return f"{error.override}: write key=value; fires-exp --help shows examples"
    problem = error.message.splitlines()[0]
    return f"{error.override}: Hydra cannot parse it ({problem}); put quotes around a value with special characters"


def _group_without_default(text: str, overrides: Sequence[str]) -> str:
    key = text.partition("'")[2].partition("'")[0]
    override = _override_of(key, overrides)
    if key in groups():
        return f"{override}: this group has no default; write +{override}"
    return f"{override}: unknown group{suggestion(key, groups(), 'the groups are the folders of conf/')}"


def _override_of(key: str, overrides: Sequence[str]) -> str:
    """The override that sets a key, as it was written; the key itself where none does."""
    return next((text for text in reversed(overrides) if text.partition("=")[0].lstrip("+~") == key), key)


def _keys_of_tree(tree: object, prefix: str) -> Iterator[str]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield f"{prefix}{name}"
            yield from _keys_of_tree(value, f"{prefix}{name}.")

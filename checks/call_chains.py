"""How far objects of one part of the code reach, from function to function, over the borders of modules.

A carrier is an object of a class that the part defines. It reaches a function where another function, that has it as a parameter
(or a method, as `self`), writes the bare name as an argument of a call, or calls a method of it. Followed are calls of functions,
classes and methods of carriers that are imported or defined by name, which is how this code base calls across modules.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Trees = Mapping[str, ast.Module]
Names = Mapping[str, str]  # what the names of a module stand for, as dotted names such as fires_exp.grpo.loss.grpo_loss


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function or a method. `carried` are its parameters that hold a carrier, with the dotted name of its class."""

    module: str
    name: str
    node: ast.FunctionDef
    carried: Mapping[str, str]


def chains_of_carriers(trees: Trees, *, start: str, carriers: str) -> tuple[list[str], set[str]]:
    """The longest chain of modules over whose borders a carrier reaches, beginning with a function of the module `start`, and all
    modules that such chains enter. `carriers` is the dotted prefix of the modules whose classes are carriers."""
    names = {module: _names(module, tree) for module, tree in trees.items()}
    classes = {
        f"{module}.{node.name}"
        for module, tree in trees.items()
        if module.startswith(carriers)
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    functions = {
        f"{module}.{function.name}": function
        for module, tree in trees.items()
        for function in _functions(module, tree, names[module], classes)
    }
    calls = {name: set(_reached(function, names[function.module], functions)) for name, function in functions.items()}
    longest: list[str] = []
    entered: set[str] = set()
    for name, function in functions.items():
        if function.module == start:
            chain, modules = _follow(name, functions, calls, (name,))
            entered |= modules - {start}
            longest = max(longest, chain, key=len)
    return longest, entered


def _follow(
    name: str, functions: Mapping[str, Function], calls: Mapping[str, set[str]], path: tuple[str, ...]
) -> tuple[list[str], set[str]]:
    """The longest chain of modules from a function on, the function's own first, and all modules that it enters."""
    own = functions[name].module
    longest, entered = [own], {own}
    for callee in sorted(calls[name] - set(path)):
        chain, modules = _follow(callee, functions, calls, (*path, callee))
        entered |= modules
        longest = max(longest, chain if chain[0] == own else [own, *chain], key=len)
    return longest, entered


def _names(module: str, tree: ast.Module) -> dict[str, str]:
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names | {node.name: f"{module}.{node.name}" for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def _functions(module: str, tree: ast.Module, names: Names, classes: set[str]) -> Iterator[Function]:
    """The functions of a module, and its methods as Class.method; a class itself stands for its `__init__`."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield Function(module=module, name=node.name, node=node, carried=_carried(node, names, classes))
        elif isinstance(node, ast.ClassDef):
            own = {"self": f"{module}.{node.name}"} if f"{module}.{node.name}" in classes else {}
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    name = node.name if method.name == "__init__" else f"{node.name}.{method.name}"
                    yield Function(module=module, name=name, node=method, carried=_carried(method, names, classes) | own)


def _carried(node: ast.FunctionDef, names: Names, classes: set[str]) -> dict[str, str]:
    """The parameters whose annotation names a carrier's class, alone or within another type."""
    carried = {}
    for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
        for part in ast.walk(argument.annotation) if argument.annotation is not None else ():
            if isinstance(part, ast.Name) and names.get(part.id) in classes:
                carried[argument.arg] = names[part.id]
    return carried


def _reached(function: Function, names: Names, functions: Mapping[str, Function]) -> Iterator[str]:
    """The functions that one of a function's carriers reaches directly."""
    for node in ast.walk(function.node):
        if not isinstance(node, ast.Call):
            continue
        callee = ""
        if isinstance(node.func, ast.Name) and any(_is_carrier(value, function) for value in _arguments(node)):
            callee = names.get(node.func.id, "")
        elif isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            callee = f"{function.carried.get(node.func.value.id, '')}.{node.func.attr}"
        if callee in functions:
            yield callee


def _arguments(call: ast.Call) -> Iterator[ast.expr]:
    yield from call.args
    yield from (keyword.value for keyword in call.keywords)


def _is_carrier(value: ast.expr, function: Function) -> bool:
    return isinstance(value, ast.Name) and value.id in function.carried

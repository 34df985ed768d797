"""Finds code in a function by structure and by symbol, so that a mutant survives a renaming and another layout.

A symbol is the object itself: a function, a method (`Table.put`), an error class, a constant (`MINE`) or a literal. So
the type checker finds a symbol that was renamed. A `Field` stands for an attribute of a class that has slots, and a
`Local` for a name without an object: a parameter or a variable of the function.
"""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any, TypeVar

Node = TypeVar("Node", bound=ast.AST)


@dataclass(frozen=True, slots=True)
class Local:
    """Names a parameter or a variable."""

    name: str


@dataclass(frozen=True, slots=True)
class Field:
    """Names an attribute of instances of `owner`. Raises LookupError when they have none of this name."""

    owner: type
    name: str

    def __post_init__(self) -> None:
        if not hasattr(self.owner, self.name):
            raise LookupError(f"{self.owner.__name__} has no {self.name}")


class Code:
    """A function's syntax tree, and the meaning of its names."""

    def __init__(self, tree: ast.FunctionDef, function: FunctionType) -> None:
        self.tree = tree
        self._globals = vars(builtins) | function.__globals__

    def all(self, *kinds: type[Node]) -> list[Node]:
        """Returns the nodes of these kinds in the function's body, in the order of the source."""
        found = [node for part in self.tree.body for node in ast.walk(part) if isinstance(node, kinds)]
        return sorted(found, key=lambda node: (node.lineno, node.col_offset))  # type: ignore[attr-defined]

    def knows(self, name: str) -> bool:
        """True for a global, a builtin, and whatever the function itself names."""
        own = {node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name)}
        parameters = {node.arg for node in ast.walk(self.tree) if isinstance(node, ast.arg)}
        return name in self._globals or name in own | parameters

    def reads(self, node: ast.AST | None, symbol: object) -> bool:
        """True when the node is a use of the symbol. A method or a field counts on whatever object it is read."""
        if isinstance(node, ast.Constant):
            return type(node.value) is type(symbol) and node.value == symbol
        if isinstance(node, ast.Attribute):
            return node.attr == _name_of(symbol)
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
            return False
        if isinstance(symbol, Local):
            return node.id == symbol.name
        held = self._globals.get(node.id)
        return held is symbol or (type(held) is type(symbol) and held == symbol)

    def mentions(self, node: ast.AST, symbols: Iterable[object]) -> bool:
        """True when each of the symbols is used somewhere in the node."""
        return all(any(self.reads(part, symbol) for part in ast.walk(node)) for symbol in symbols)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Finds a piece of code. It must be there exactly once, unless `first`, `second` or `every` is asked for."""

    text: str
    candidates: Callable[[Code], Iterable[ast.AST]]
    position: int | None = None
    takes_all: bool = False

    @property
    def first(self) -> Pattern:
        return replace(self, position=0)

    @property
    def second(self) -> Pattern:
        return replace(self, position=1)

    @property
    def every(self) -> Pattern:
        return replace(self, takes_all=True)

    def nodes(self, code: Code) -> list[ast.AST]:
        """Raises LookupError when the code is not there, or more than once."""
        found = list(self.candidates(code))
        if self.position is not None:
            found = found[self.position : self.position + 1]
        if not found or (len(found) > 1 and not self.takes_all):
            raise LookupError(f"{code.tree.name} has {len(found)} times: {self.text}")
        return found


def calls(symbol: object, *mentioned: object) -> Pattern:
    """Finds calls of the symbol that mention the others."""
    return Pattern(
        f"call of {_text(symbol, *mentioned)}",
        lambda code: (
            call for call in code.all(ast.Call) if code.reads(call.func, symbol) and code.mentions(call, mentioned)
        ),
    )


def statements(symbol: object) -> Pattern:
    """Finds statements that are calls of the symbol."""
    return Pattern(
        f"statement that calls {_text(symbol)}",
        lambda code: (
            each
            for each in code.all(ast.Expr)
            if isinstance(each.value, ast.Call) and code.reads(each.value.func, symbol)
        ),
    )


def comparisons(*mentioned: object) -> Pattern:
    """Finds comparisons that mention the symbols."""
    return Pattern(
        f"comparison with {_text(*mentioned)}",
        lambda code: (each for each in code.all(ast.Compare) if code.mentions(each, mentioned)),
    )


def conditions(*mentioned: object) -> Pattern:
    """Finds conditions of `if` statements that mention the symbols."""
    return Pattern(
        f"condition on {_text(*mentioned)}",
        lambda code: (each.test for each in code.all(ast.If) if code.mentions(each.test, mentioned)),
    )


def choices(*mentioned: object) -> Pattern:
    """Finds expressions `a if b else c` in which `b` mentions the symbols."""
    return Pattern(
        f"choice by {_text(*mentioned)}",
        lambda code: (each for each in code.all(ast.IfExp) if code.mentions(each.test, mentioned)),
    )


def uses(symbol: object) -> Pattern:
    """Finds places at which the symbol is read."""
    return Pattern(
        f"use of {_text(symbol)}",
        lambda code: (each for each in code.all(ast.Name, ast.Attribute, ast.Constant) if code.reads(each, symbol)),
    )


def keyword(name: str) -> Pattern:
    """Finds arguments that are given under the name."""
    return Pattern(f"argument {name}", lambda code: (each for each in code.all(ast.keyword) if each.arg == name))


def value_under(name: str) -> Pattern:
    """Finds values of the key in the literal of a dictionary."""
    return Pattern(
        f"value under {name!r}",
        lambda code: (
            value
            for each in code.all(ast.Dict)
            for key, value in zip(each.keys, each.values, strict=True)
            if code.reads(key, name)
        ),
    )


def assignments(name: str) -> Pattern:
    """Finds values that are assigned to the local variable."""
    return Pattern(
        f"assignment to {name}",
        lambda code: (
            each.value
            for each in code.all(ast.Assign)
            if any(isinstance(target, ast.Name) and target.id == name for target in each.targets)
        ),
    )


def raising(error: type[Exception]) -> Pattern:
    """Finds statements that raise the error."""
    return Pattern(
        f"raise of {_text(error)}", lambda code: (each for each in code.all(ast.Raise) if code.mentions(each, [error]))
    )


def handling(error: type[Exception]) -> Pattern:
    """Finds the first statement of handlers of the error."""
    return Pattern(
        f"handler of {_text(error)}",
        lambda code: (each.body[0] for each in code.all(ast.ExceptHandler) if code.reads(each.type, error)),
    )


def results() -> Pattern:
    """Finds values that are returned."""
    return Pattern("result", lambda code: (each.value for each in code.all(ast.Return) if each.value))


def _text(*symbols: object) -> str:
    return ", ".join(_name_of(symbol) or repr(symbol) for symbol in symbols)


def _name_of(symbol: object) -> str:
    if isinstance(symbol, Field):
        return symbol.name
    named: Any = symbol.fget if isinstance(symbol, property) else symbol
    return str(getattr(inspect.unwrap(named) if callable(named) else named, "__name__", ""))

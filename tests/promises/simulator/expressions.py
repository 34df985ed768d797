"""DynamoDB's expressions, read by recursive descent: conditions, key conditions, projections and updates.

    condition   either = both ("OR" both)*;  both = negated ("AND" negated)*;  negated = "NOT" negated | simple
    simple      "(" either ")" | function | operand comparator operand | operand "BETWEEN" operand "AND" operand
    update      ("SET" path "=" sum, … | "ADD" path value, … | "REMOVE" path, …)+
    operand     a path (`a`, `#a`, `a.b[1]`) or a value (`:v`)

An operator that Turnlog never uses (IN, contains, size, attribute_type, list_append, sets) is not simulated: it is an
error.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tests.promises.simulator.attribute_values import Item, Value, compared, equal
from tests.promises.simulator.reserved_words import RESERVED

MAX_EXPRESSION_BYTES = 4096


class InvalidExpression(ValueError):
    """Says that DynamoDB would answer ValidationException."""


@dataclass(frozen=True, slots=True)
class Names:
    """The placeholders of one call and their meaning. All that are used are there, which is checked before."""

    names: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Value] = field(default_factory=dict)

    def text(self, operand: Operand) -> str:
        """Returns the value of the operand when it is a text; else an empty one."""
        return str((operand({}, self) or {}).get("S", ""))

    def name(self, word: str) -> str:
        return self.names[word] if word.startswith("#") else word


Operand = Callable[[Item, Names], Value | None]
Condition = Callable[[Item, Names], bool]


@dataclass(frozen=True, slots=True)
class Path:
    """A path into an item: names, placeholders of names and positions in lists."""

    steps: tuple[str | int, ...]

    def resolved(self, names: Names) -> tuple[str | int, ...]:
        return tuple(step if isinstance(step, int) else names.name(step) for step in self.steps)

    def __call__(self, item: Item, names: Names) -> Value | None:
        if len(self.steps) == 1:
            return item.get(names.name(str(self.steps[0])))
        found: Any = {"M": item}
        for step in self.resolved(names):
            found = _child(found, step)
            if found is None:
                return None
        value: Value = found
        return value


def _child(value: Value, step: str | int) -> Value | None:
    if isinstance(step, str):
        child: Value | None = value.get("M", {}).get(step)
        return child
    elements: list[Value] = value.get("L", [])
    return elements[step] if step < len(elements) else None


_TOKEN = re.compile(r"\s*(?:([:#]?[A-Za-z_0-9]+)|(<>|<=|>=|[=<>(),.\[\]+-]))")
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Reader:
    """Takes the tokens of one expression from the left. `used` and `paths` are the placeholders and paths so far."""

    def __init__(self, text: str) -> None:
        if not text.strip():
            raise InvalidExpression("The expression can not be empty")
        if len(text.encode()) > MAX_EXPRESSION_BYTES:
            raise InvalidExpression("Expression size has exceeded the maximum allowed size")
        self.used: set[str] = set()
        self.paths: list[Path] = []
        self._tokens: list[str] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                raise InvalidExpression(f"Syntax error near {text[at : at + 20]!r}")
            self._tokens.append(match[1] or match[2])
            at = match.end()
        self._tokens.reverse()

    @property
    def ahead(self) -> str:
        """Returns the next token; empty at the end."""
        return self._tokens[-1] if self._tokens else ""

    def take(self) -> str:
        if not self._tokens:
            raise InvalidExpression("Syntax error: the expression ends too early")
        return self._tokens.pop()

    def takes(self, *words: str) -> bool:
        """Takes the next token if it is one of these words, in upper or lower case."""
        if self.ahead.upper() in words:
            self.take()
            return True
        return False

    def expect(self, token: str) -> None:
        if self.take().upper() != token:
            raise InvalidExpression(f"Syntax error: expected {token}")

    def end(self) -> None:
        if self._tokens:
            raise InvalidExpression(f"Syntax error near {self.ahead!r}")

    def path(self) -> Path:
        steps: list[str | int] = [self._name()]
        while self.ahead in (".", "["):
            if self.take() == ".":
                steps.append(self._name())
            else:
                steps.append(int(self.take()))
                self.expect("]")
        self.paths.append(Path(tuple(steps)))
        return self.paths[-1]

    def _name(self) -> str:
        word = self.take()
        if word.startswith("#"):
            self.used.add(word)
        elif not (word[0].isalpha() or word[0] == "_"):
            raise InvalidExpression(f"Syntax error near {word!r}")
        elif word.upper() in RESERVED:
            raise InvalidExpression(f"Attribute name is a reserved keyword; reserved keyword: {word}")
        return word

    def value(self) -> Operand:
        placeholder = self.take()
        if not placeholder.startswith(":"):
            raise InvalidExpression(f"Syntax error near {placeholder!r}")
        self.used.add(placeholder)
        return lambda item, names: names.values[placeholder]

    def operand(self) -> Operand:
        return self.value() if self.ahead.startswith(":") else self.path()


# --- conditions -------------------------------------------------------------------------------------------------------


def _either(read: Reader) -> Condition:
    left = _both(read)
    while read.takes("OR"):
        left = _or(left, _both(read))
    return left


def _or(left: Condition, right: Condition) -> Condition:
    return lambda item, names: left(item, names) or right(item, names)


def _both(read: Reader) -> Condition:
    left = _negated(read)
    while read.takes("AND"):
        left = _and(left, _negated(read))
    return left


def _and(left: Condition, right: Condition) -> Condition:
    return lambda item, names: left(item, names) and right(item, names)


def _negated(read: Reader) -> Condition:
    if read.takes("NOT"):
        inner = _negated(read)
        return lambda item, names: not inner(item, names)
    return _simple(read)


def _simple(read: Reader) -> Condition:
    if read.takes("("):
        inner = _either(read)
        read.expect(")")
        return inner
    if read.ahead in _FUNCTIONS:
        function = _FUNCTIONS[read.take()]
        read.expect("(")
        condition = function(read)
        read.expect(")")
        return condition
    left = read.operand()
    if read.takes("BETWEEN"):
        low = read.operand()
        read.expect("AND")
        return _between(left, low, read.operand())
    sign = read.take()
    right = read.operand()
    if sign == "=":
        return lambda item, names: equal(left(item, names), right(item, names))
    if sign == "<>":
        return lambda item, names: not equal(left(item, names), right(item, names))
    if sign in _ORDERS:
        order = _ORDERS[sign]
        return lambda item, names: compared(left(item, names), right(item, names), order)
    raise InvalidExpression(f"Syntax error near {sign!r}")


def _between(value: Operand, low: Operand, high: Operand) -> Condition:
    return lambda item, names: (
        compared(value(item, names), low(item, names), operator.ge)
        and compared(value(item, names), high(item, names), operator.le)
    )


def _exists(read: Reader) -> Condition:
    path = read.path()
    return lambda item, names: path(item, names) is not None


def _not_exists(read: Reader) -> Condition:
    path = read.path()
    return lambda item, names: path(item, names) is None


def _begins_with(read: Reader) -> Condition:
    path = read.path()
    read.expect(",")
    start = read.operand()
    return lambda item, names: compared(path(item, names), start(item, names), _starts)


def _starts(whole: Any, start: Any) -> bool:
    return isinstance(whole, bytes) and whole.startswith(start)


_FUNCTIONS: dict[str, Callable[[Reader], Condition]] = {
    "attribute_exists": _exists,
    "attribute_not_exists": _not_exists,
    "begins_with": _begins_with,
}


# --- whole expressions ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1000)
def condition(text: str) -> tuple[Condition, frozenset[str]]:
    """Returns a test of items, and the placeholders in the expression. Raises InvalidExpression."""
    read = Reader(text)
    parsed = _either(read)
    read.end()
    return parsed, frozenset(read.used)


@lru_cache(maxsize=1000)
def projection(text: str) -> tuple[tuple[Path, ...], frozenset[str]]:
    """Returns the attributes that the expression names, and its placeholders. Raises InvalidExpression."""
    read = Reader(text)
    paths = [read.path()]
    while read.takes(","):
        paths.append(read.path())
    read.end()
    return tuple(paths), frozenset(read.used)


@dataclass(frozen=True, slots=True)
class KeyCondition:
    """`pk = :value`, and perhaps `AND` a condition on the sort key. `paths` are the attributes that it names."""

    partition: Operand
    holds: Condition | None
    paths: tuple[Path, ...]


@lru_cache(maxsize=1000)
def key_condition(text: str) -> tuple[KeyCondition, frozenset[str]]:
    """Reads the partition key, then the sort key, without parentheses around either. Raises InvalidExpression."""
    read = Reader(text)
    read.path()
    read.expect("=")
    partition = read.value()
    holds = _simple(read) if read.takes("AND") else None
    read.end()
    return KeyCondition(partition, holds, tuple(read.paths)), frozenset(read.used)

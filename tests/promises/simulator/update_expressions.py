"""DynamoDB's update expressions: SET with +, - and if_not_exists, ADD of numbers, REMOVE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from tests.promises.simulator.attribute_values import InvalidValue, Item, Value, add, checked, copied, number_of
from tests.promises.simulator.expressions import InvalidExpression, Names, Operand, Path, Reader

Change = Callable[[Item, Item, Names], None]
"""Changes the second item. The first is the item before the update, from which values are read."""


class UpdateRefused(ValueError):
    """Says that the expression makes no sense for this item; DynamoDB would answer ValidationException."""


@dataclass(frozen=True, slots=True)
class Update:
    """A change of an item; `paths` are the attributes that it changes."""

    changes: tuple[Change, ...]
    paths: tuple[Path, ...]

    def applied(self, item: Item, names: Names) -> Item:
        """Returns the changed item. Raises UpdateRefused."""
        changed = copied(item)
        try:
            for change in self.changes:
                change(item, changed, names)
        except InvalidValue as error:
            raise UpdateRefused(str(error)) from error
        return changed


@lru_cache(maxsize=1000)
def update(text: str) -> tuple[Update, frozenset[str]]:
    """Reads each of SET, ADD and REMOVE at most once, in any order. Raises InvalidExpression."""
    read = Reader(text)
    changes: list[Change] = []
    paths: list[Path] = []
    clauses = {"SET": _set, "ADD": _add, "REMOVE": _remove}
    while read.ahead:
        clause = clauses.pop(read.take().upper(), None)
        if clause is None:
            raise InvalidExpression("Syntax error: not one of SET, ADD and REMOVE, or more than one of a kind")
        while True:
            path = read.path()
            paths.append(path)
            changes.append(clause(read, path))
            if not read.takes(","):
                break
    return Update(tuple(changes), tuple(paths)), frozenset(read.used)


def _set(read: Reader, path: Path) -> Change:
    read.expect("=")
    term = _sum(read)

    def change(was: Item, item: Item, names: Names) -> None:
        value = term(was, names)
        if value is None:
            raise UpdateRefused("The provided expression refers to an attribute that does not exist in the item")
        _assign(item, path.resolved(names), value)

    return change


def _sum(read: Reader) -> Operand:
    left = _term(read)
    sign = {"+": 1, "-": -1}.get(read.ahead)
    if sign is None:
        return left
    read.take()
    right = _term(read)

    def total(item: Item, names: Names) -> Value | None:
        first, second = left(item, names), right(item, names)
        if first is None or second is None:
            return None
        if "N" not in first or "N" not in second:
            raise UpdateRefused("An operand in the update expression has an incorrect data type")
        return add(number_of(first), sign * number_of(second))

    return total


def _term(read: Reader) -> Operand:
    if read.ahead != "if_not_exists":
        return read.operand()
    read.take()
    read.expect("(")
    path = read.path()
    read.expect(",")
    otherwise = read.operand()
    read.expect(")")

    def term(item: Item, names: Names) -> Value | None:
        found = path(item, names)
        return otherwise(item, names) if found is None else found

    return term


def _add(read: Reader, path: Path) -> Change:
    amount = read.value()

    def change(was: Item, item: Item, names: Names) -> None:
        before, more = path(was, names) or {"N": "0"}, amount(was, names)
        if more is None or "N" not in more or "N" not in before:
            raise UpdateRefused("An operand in the update expression has an incorrect data type")
        _assign(item, path.resolved(names), add(number_of(before), Decimal(more["N"])))

    return change


def _remove(read: Reader, path: Path) -> Change:
    def change(was: Item, item: Item, names: Names) -> None:
        *way, last = path.resolved(names)
        parent = _parent(item, way)
        if isinstance(last, int):
            raise UpdateRefused("the simulator does not remove elements of lists")
        if parent is not None:
            parent.pop(last, None)

    return change


def _assign(item: Item, steps: tuple[str | int, ...], value: Value) -> None:
    *way, last = steps
    parent = _parent(item, way)
    if parent is None or isinstance(last, int):
        raise UpdateRefused("The document path provided in the update expression is invalid for update")
    parent[last] = checked({last: value})[last]


def _parent(item: Item, way: list[str | int]) -> Item | None:
    """Returns the map that holds the last name of the path; None when there is none."""
    parent: Item | None = item
    for step in way:
        if parent is None or isinstance(step, int):
            return None
        parent = parent.get(step, {}).get("M")
    return parent

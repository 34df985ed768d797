"""A write of one item, from the arguments of boto3: its key, its condition, and the item that it leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from botocore.exceptions import ClientError, ParamValidationError

from tests.promises.simulator.attribute_values import MAX_ITEM_BYTES, InvalidValue, Item, checked, size
from tests.promises.simulator.expressions import InvalidExpression, Names, condition
from tests.promises.simulator.tables import Key
from tests.promises.simulator.update_expressions import UpdateRefused, update

Arguments = dict[str, Any]
Parsed = TypeVar("Parsed")
Placeholders = frozenset[str]

_CONDITION = (
    "ConditionExpression",
    "ExpressionAttributeNames",
    "ExpressionAttributeValues",
    "ReturnValuesOnConditionCheckFailure",
)


# --- arguments of any operation ---------------------------------------------------------------------------------------


def refused(code: str, message: str, status: int = 400, **more: Any) -> ClientError:
    """Makes the error that boto3 raises for this answer of the service."""
    response: Any = {"Error": {"Code": code, "Message": message}, **more}
    response["ResponseMetadata"] = {"HTTPStatusCode": status, "RetryAttempts": 0}
    return ClientError(response, "SimulatedOperation")


def invalid(message: str) -> ClientError:
    return refused("ValidationException", message)


def require_arguments(given: Arguments, required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    """Raises the error of boto3 when an argument is missing, or one is given that is not simulated."""
    needed, known = _argument_names(required, optional)
    if not needed <= given.keys() <= known:
        missing, unknown = needed - given.keys(), given.keys() - known
        raise ParamValidationError(report=f"missing: {sorted(missing)}, unknown: {sorted(unknown)}")


@cache
def _argument_names(required: tuple[str, ...], optional: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(required), frozenset(required + optional)


def parsed(
    parse: Callable[[str], tuple[Parsed, Placeholders]], expression: str | None
) -> tuple[Parsed | None, Placeholders]:
    """Reads the expression, if there is one, and its placeholders."""
    if expression is None:
        return None, frozenset()
    try:
        return parse(expression)
    except InvalidExpression as error:
        raise invalid(f"Invalid expression: {error}") from error


def names_of(given: Arguments, used: Placeholders) -> Names:
    """Returns the placeholders of a call. All that are used must be given, and all that are given used."""
    names: Mapping[str, str] = given.get("ExpressionAttributeNames", {})
    values: Item = given.get("ExpressionAttributeValues", {})
    if missing := used - names.keys() - values.keys():
        raise invalid(f"An expression attribute name or value used in expression is not defined: {sorted(missing)}")
    if unused := {*names, *values} - used:
        raise invalid(f"Value provided in ExpressionAttributeNames or Values unused in expressions: {sorted(unused)}")
    return Names(names, _checked(values))


def key_of(key: Item, *, whole: bool = False) -> Key:
    """Returns the key; or that of a whole item, which holds it among others."""
    if not whole and set(key) != {"pk", "sk"}:
        raise invalid("The provided key element does not match the schema")
    texts = [key.get(name, {}).get("S") for name in ("pk", "sk")]
    if not all(isinstance(text, str) and text for text in texts):
        raise invalid("One or more parameter values were invalid: pk and sk must be texts that are not empty")
    return str(texts[0]), str(texts[1])


def _checked(item: Item) -> Item:
    try:
        return checked(item)
    except InvalidValue as error:
        raise invalid(f"One or more parameter values were invalid: {error}") from error


# --- actions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Action:
    """A write. `leaves` returns the item afterwards; it may refuse with a ClientError."""

    table: str
    key: Key
    holds: Callable[[Item | None], bool]
    leaves: Callable[[Item | None], Item | None]
    shows_item_on_failure: bool
    bytes: int = 0


def put(given: Arguments) -> Action:
    require_arguments(given, ("TableName", "Item"), _CONDITION)
    item = _checked(given["Item"])
    key = key_of(item, whole=True)
    item_bytes = size(item)
    if item_bytes > MAX_ITEM_BYTES:
        raise invalid("Item size has exceeded the maximum allowed size")
    return Action(given["TableName"], key, _condition(given), lambda _: item, _shows(given), item_bytes)


def delete(given: Arguments) -> Action:
    require_arguments(given, ("TableName", "Key"), _CONDITION)
    return Action(given["TableName"], key_of(given["Key"]), _condition(given), lambda _: None, _shows(given))


def check(given: Arguments) -> Action:
    """Leaves the item as it is."""
    require_arguments(given, ("TableName", "Key", "ConditionExpression"), _CONDITION)
    return Action(given["TableName"], key_of(given["Key"]), _condition(given), lambda old: old, _shows(given))


def change(given: Arguments) -> Action:
    """Makes the item when there is none."""
    require_arguments(given, ("TableName", "Key", "UpdateExpression"), _CONDITION)
    key = key_of(given["Key"])
    wanted, used = parsed(update, given["UpdateExpression"])
    condition_, used_here = parsed(condition, given.get("ConditionExpression"))
    names = names_of(given, used | used_here)
    paths = [path.resolved(names) for path in wanted.paths] if wanted else []
    if any(path[0] in ("pk", "sk") for path in paths):
        raise invalid("Cannot update attribute. This attribute is part of the key")
    if any(one == other[: len(one)] for at, one in enumerate(paths) for other in paths[:at] + paths[at + 1 :]):
        raise invalid("Two document paths overlap with each other")

    def holds(old: Item | None) -> bool:
        return condition_ is None or condition_(old or {}, names)

    def leaves(old: Item | None) -> Item:
        was = _checked(given["Key"]) if old is None else old
        try:
            item = wanted.applied(was, names) if wanted else was
        except UpdateRefused as error:
            raise invalid(str(error)) from error
        if size(item) > MAX_ITEM_BYTES:
            raise invalid("Item size to update has exceeded the maximum allowed size")
        return item

    return Action(given["TableName"], key, holds, leaves, _shows(given))


def _condition(given: Arguments) -> Callable[[Item | None], bool]:
    wanted, used = parsed(condition, given.get("ConditionExpression"))
    names = names_of(given, used)
    if wanted is None:
        return lambda _: True
    return lambda old: wanted(old or {}, names)


def _shows(given: Arguments) -> bool:
    wanted = given.get("ReturnValuesOnConditionCheckFailure", "NONE")
    if wanted not in ("NONE", "ALL_OLD"):
        raise invalid(f"ReturnValuesOnConditionCheckFailure cannot be {wanted}")
    return bool(wanted == "ALL_OLD")

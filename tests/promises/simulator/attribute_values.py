"""Attribute values in the form of boto3's client, `{"S": "…"}`: checked, normalised, measured and compared.

Sets are not simulated, since Turnlog stores none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Context, Decimal, Inexact, InvalidOperation, Rounded
from typing import Any

Value = dict[str, Any]
Item = dict[str, Value]

MAX_ITEM_BYTES = 400 * 1024

_EXACT = Context(prec=38, traps=[Inexact, Rounded, InvalidOperation])
_PLAIN_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,16}")
_LARGEST, _SMALLEST = Decimal("9.9999999999999999999999999999999999999E+125"), Decimal("1E-130")


class InvalidValue(ValueError):
    """Says that DynamoDB would not take the value."""


def number_of(value: Value) -> Decimal:
    """Returns the number in a value of type N."""
    return Decimal(value["N"])


def number_value(number: Decimal) -> Value:
    """Returns the number as DynamoDB gives it back, without exponent and zeros at the end. Raises InvalidValue beyond
    its 38 digits.
    """
    try:
        exact = number.normalize(_EXACT)
    except (InvalidOperation, Inexact, Rounded) as error:
        raise InvalidValue("Attempting to store more than 38 significant digits in a Number") from error
    if not exact.is_finite() or (exact and not _SMALLEST <= abs(exact) <= _LARGEST):
        raise InvalidValue("Number overflow or underflow")
    return {"N": f"{exact:f}" if exact else "0"}


def add(left: Decimal, right: Decimal) -> Value:
    """Returns the exact sum. Raises InvalidValue when it has more than 38 digits."""
    try:
        return number_value(_EXACT.add(left, right))
    except (Inexact, Rounded) as error:
        raise InvalidValue("Attempting to store more than 38 significant digits in a Number") from error


def checked(item: Mapping[str, Value]) -> Item:
    """Returns a copy that shares nothing with the original, numbers normalised. Raises InvalidValue."""
    return {_name(name): _checked_value(value) for name, value in item.items()}


def _name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidValue("an attribute's name must be a text that is not empty")
    return name


def _checked_value(value: Value) -> Value:
    if not isinstance(value, dict) or len(value) != 1:
        raise InvalidValue("Supplied AttributeValue must contain exactly one of the supported datatypes")
    ((kind, content),) = value.items()
    check = _CHECKS.get(kind)
    if check is None:
        raise InvalidValue(f"the simulator does not know values of type {kind}")
    return check(content)


def _text(content: Any) -> Value:
    if not isinstance(content, str):
        raise InvalidValue("S must be a text")
    return {"S": content}


def _number(content: Any) -> Value:
    if not isinstance(content, str):
        raise InvalidValue("N must be a number as text")
    if _PLAIN_INTEGER.fullmatch(content):
        return {"N": content}
    try:
        return number_value(Decimal(content))
    except InvalidOperation as error:
        raise InvalidValue("The parameter cannot be converted to a numeric value") from error


def _binary(content: Any) -> Value:
    if not isinstance(content, bytes | bytearray):
        raise InvalidValue("B must be bytes")
    return {"B": bytes(content)}


def _map(content: Any) -> Value:
    return {"M": checked(content)}


def _list(content: Any) -> Value:
    return {"L": [_checked_value(each) for each in content]}


def _boolean(content: Any) -> Value:
    if not isinstance(content, bool):
        raise InvalidValue("BOOL must be true or false")
    return {"BOOL": content}


def _null(content: Any) -> Value:
    if content is not True:
        raise InvalidValue("Null attribute value types must have the value of true")
    return {"NULL": True}


_CHECKS: dict[str, Callable[[Any], Value]] = {
    "S": _text,
    "N": _number,
    "B": _binary,
    "M": _map,
    "L": _list,
    "BOOL": _boolean,
    "NULL": _null,
}


def copied(item: Item) -> Item:
    """Returns a copy that shares nothing with the original that could be changed."""
    return {name: _copied_value(value) for name, value in item.items()}


def _copied_value(value: Value) -> Value:
    if "M" in value:
        return {"M": copied(value["M"])}
    if "L" in value:
        return {"L": [_copied_value(each) for each in value["L"]]}
    return value.copy()


def size(item: Item) -> int:
    """Counts bytes as DynamoDB does (developer guide, "DynamoDB item sizes and formats"), names included."""
    return sum(_length(name) + _value_size(value) for name, value in item.items())


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _value_size(value: Value) -> int:
    ((kind, content),) = value.items()
    if kind == "S":
        return _length(content)
    if kind == "B":
        return len(content)
    if kind == "N":
        digits = len(content.lstrip("-").replace(".", "").strip("0"))
        return 1 + (digits + 1) // 2 + int(content.startswith("-"))
    if kind == "M":
        return 3 + size(content) + len(content)
    if kind == "L":
        return 3 + sum(1 + _value_size(each) for each in content)
    return 1


def equal(left: Value | None, right: Value | None) -> bool:
    """True when both are there and the same, type included. Numbers are equal by value."""
    if left is None or right is None:
        return False
    if "N" in left and "N" in right:
        return number_of(left) == number_of(right)
    return left == right


def compared(left: Value | None, right: Value | None, holds: Callable[[Any, Any], bool]) -> bool:
    """True when both are numbers, both texts or both bytes, and the comparison holds between them."""
    if left is None or right is None:
        return False
    if "N" in left and "N" in right:
        return holds(number_of(left), number_of(right))
    if "S" in left and "S" in right:
        return holds(left["S"].encode(), right["S"].encode())
    if "B" in left and "B" in right:
        return holds(left["B"], right["B"])
    return False

"""The bytes that DynamoDB counts for an item, from its form on the wire (AWS documentation, "DynamoDB item sizes")."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def item_bytes(item: Mapping[str, Mapping[str, Any]]) -> int:
    """Names and values together, names and texts in UTF-8."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "N":
            return _number_bytes(content)
        case "B":
            return _binary_bytes(content)
        case "BOOL" | "NULL":
            return 1
        case "M":
            return 3 + sum(1 + len(name.encode()) + _value_bytes(each) for name, each in content.items())
        case "L":
            return 3 + sum(1 + _value_bytes(each) for each in content)
        case "SS":
            return sum(len(each.encode()) for each in content)
        case "NS":
            return sum(map(_number_bytes, content))
        case "BS":
            return sum(map(_binary_bytes, content))
    raise ValueError(kind)


def _number_bytes(number: str) -> int:
    """About a byte for every two significant digits, and one more."""
    digits = number.lower().partition("e")[0].replace(".", "").strip("-").strip("0")
    return math.ceil(len(digits) / 2) + 1 + number.startswith("-")


def _binary_bytes(base64: str) -> int:
    return len(base64) * 3 // 4 - base64.count("=", -2)

"""The fields of one object in a message: those it must have and may have, and the texts in them.

Whatever is wrong is told with the pointer to it, never by the name or value that was sent.
"""

from __future__ import annotations

from typing import Any, NoReturn

from turnlog.domain.messages import has_foreign_controls
from turnlog.errors import InvalidRequest, ValueRefused

Path = tuple[int | str, ...]
"""The place of a value in the body: names of fields and indexes."""


def malformed(code: str, at: Path, **details: Any) -> NoReturn:
    """Raises InvalidRequest: this is no message at all."""
    raise InvalidRequest(code, pointer(at), details)


def refuse(code: str, at: Path, **details: Any) -> NoReturn:
    """Raises ValueRefused: a message, but with a value that is not taken."""
    raise ValueRefused(code, pointer(at), details)


def pointer(at: Path) -> str:
    """Returns the path as a JSON pointer. Its parts are known names and numbers, so nothing needs to be escaped."""
    return "".join(f"/{part}" for part in at)


def kind_of(value: Any, at: Path, allowed: tuple[str, ...], code: str) -> str:
    """Returns the value of the field `type`, which is one of those that are allowed."""
    if not isinstance(value, dict):
        malformed("wrong_type", at)
    if "type" not in value:
        malformed("field_missing", (*at, "type"))
    kind = value["type"]
    if not isinstance(kind, str):
        malformed("wrong_type", (*at, "type"))
    if kind not in allowed:
        refuse(code, (*at, "type"), allowed=list(allowed))
    return kind


def require_fields(value: dict[str, Any], at: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    """Raises InvalidRequest for a field that is not known here, and for one that is missing."""
    allowed = (*required, *optional)
    for number, name in enumerate(value, start=1):
        if name not in allowed:
            malformed("unknown_field", at, allowed=list(allowed), field=number)
    for name in required:
        if name not in value:
            malformed("field_missing", (*at, name))


def text_of(value: Any, at: Path, *, may_be_blank: bool = False) -> str:
    """Returns a text. Raises InvalidRequest, and ValueRefused for a blank one."""
    if not isinstance(value, str):
        malformed("wrong_type", at)
    if has_foreign_controls(value):
        malformed("control_character", at)
    if not may_be_blank and not value.strip():
        refuse("message_empty", at)
    return value


def list_of(value: Any, at: Path) -> list[Any]:
    """Returns a list. Raises InvalidRequest."""
    if not isinstance(value, list):
        malformed("wrong_type", at)
    return value


def require_bool(value: Any, at: Path) -> None:
    """Raises InvalidRequest unless the value is true or false."""
    if not isinstance(value, bool):
        malformed("wrong_type", at)

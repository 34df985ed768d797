"""The place of something in a schema, and its refusal, which repeats no name of the caller's."""

from __future__ import annotations

from typing import Any, NoReturn

from turnlog.errors import ValueRefused


class Named(int):
    """The number of a name that the caller gave, from 1: a step on the way to a part of the schema."""


At = tuple[str | int, ...]
"""The steps from the body to a part of the schema."""


def refuse(code: str, at: At, **details: Any) -> NoReturn:
    """Raises ValueRefused for what is there: with the place up to the first name of the caller's, and its number."""
    named = next((index for index, step in enumerate(at) if isinstance(step, Named)), None)
    if named is not None:  # the number of a name in the schema itself, then of one further within
        details = {"field": int(at[named])}
    raise ValueRefused(code, pointer_of(at[:named]), details)


def pointer_of(at: At) -> str:
    """Returns the place as a JSON pointer."""
    return "".join(f"/{step}" for step in at)


def name_in(reference: str) -> str:
    """The name of the definition that a reference leads to; empty when it leads anywhere else."""
    for beginning in ("#/$defs/", "#/definitions/"):
        name = reference.removeprefix(beginning)
        if name != reference and "/" not in name:
            return name.replace("~1", "/").replace("~0", "~")
    return ""

"""The types of fields that several bodies and parameters share, each with its form, its meaning and an example."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema


def described(meaning: str, *examples: Any, **form: Any) -> Any:
    """Returns the meaning and examples of a field, and its form in JSON Schema, such as a pattern.

    The form is for readers. It is not checked: the service itself makes the values that it describes.
    """
    return Field(description=meaning, json_schema_extra={**({"examples": [*examples]} if examples else {}), **form})


def time(meaning: str, example: str) -> Any:
    """Returns the meaning of a time, and an example at this hour and minute."""
    return described(meaning, f"2026-11-25T{example}:00.000Z", format="date-time")


def count(meaning: str, example: int, minimum: int = 0) -> Any:
    """Returns the meaning of a number, an example, and the least that it can be."""
    return described(meaning, example, minimum=minimum)


_BLOCK = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}}

Blocks = list[Annotated[dict[str, Any], WithJsonSchema(_BLOCK | {"additionalProperties": True})]]
SessionId = Annotated[
    str, described("The session's id.", "ses_Zm9yIGV4YW1wbGUgb25seQ", pattern="^ses_[A-Za-z0-9_-]{22}$")
]
_REF = (
    "An administrator's name for a session: it comes from the list, reveals nothing and is good for all administrators."
)
Ref = Annotated[str, described(_REF, "c2VhbGVkIGJ5IHRoZSBzZXJ2aWNl", pattern="^[A-Za-z0-9_-]+$")]
TurnNumber = Annotated[int, count("The turn's number, from 1.", 1, minimum=1)]
Model = Annotated[str, described("The model's name.", "claude-sonnet-5-5")]
_DOLLARS = "Dollars, as an exact decimal; null when the model's price is not known."
Dollars = Annotated[str | None, described(_DOLLARS, "0.000218", pattern=r"^[0-9]+(\.[0-9]+)?$")]
ExpiresAt = Annotated[str, time("The time at which the session ends, whatever happens.", "10:00")]
IdleExpiresAt = Annotated[str, time("The time at which the session ends unless another turn begins.", "09:30")]
ExportedAt = Annotated[str, time("The time of the export.", "09:15")]
DamagedIds = Annotated[list[str], described("Ids of sessions that cannot be read and can only be deleted.", [])]
STORED_LATER = (
    "that cannot be read now, and are whole: a later version of the service stored them, or a clock of it is wrong."
)
UnavailableIds = Annotated[list[str], described(f"Ids of sessions {STORED_LATER}", [])]
_UNNAMED = (
    "The number of further sessions whose very id cannot be read. They end with all of the user's, by an administrator "
    "or an erasure."
)
Unnamed = Annotated[int, count(_UNNAMED, 0)]
Items = described("The page.")
Next = Annotated[str | None, described("The `cursor` of the next page; null on the last one.", None)]
Format = described("The name of the export's format.")

"""Schemas of the object that a reply must be: checked before anything is paid, and put into one form.

In that form objects are closed, each part has one type or is one of several, and nothing refers to itself. It is what
replies are held to; the adapter makes of it what the provider takes, which has no bounds of values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from turnlog.domain.answers import bytes_in_answer
from turnlog.domain.json_schemas import MAX_SCHEMA_BYTES, MOST_DEPTH, depth_of
from turnlog.domain.messages import Message, Reply, has_foreign_controls, to_json
from turnlog.domain.output_values import fits, pattern_of
from turnlog.errors import InvalidRequest, OutputInvalid, ValueRefused

MOST_FORM_BYTES = 2 * MAX_SCHEMA_BYTES
"""The most bytes of a schema in its form, which repeats what stands in `allOf`."""

MOST_OPTIONAL = 24
MOST_UNIONS = 16
"""Optional properties and unions of a request's schemas ("Structured outputs", limits of complexity)."""

MOST_OUTPUT_BYTES = 500_000
"""The most bytes that an object takes in an answer, beside the reply itself; 16,000 tokens of prose are 64,000."""

_WHOLE_REPLIES = ("end_turn", "stop_sequence")

MOST_PARTS = 5_000
"""The most parts of a schema where each reference counts as all that it leads to, which bounds the work of a check."""

Schema = dict[str, Any]

_NOTES = ("title", "description", "default", "examples")
_IGNORED = ("$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly", "$defs", "definitions")
_BOUNDS = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "minItems", "maxItems", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "boolean": (),
    "null": (),
}
_OF_ANY_TYPE = frozenset(name for names in _BOUNDS.values() for name in names)
_WHOLE = ("$ref", "anyOf", "oneOf", "allOf")
"""Keywords that stand alone, beside notes: the provider does not take them together with others."""

_SIZES = ("minItems", "maxItems", "minLength", "maxLength")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """A schema as a request has it and in its form, both as JSON text.

    Only the first says which request it is: another version may have another form.
    """

    asked: str
    form: str


class _Named(int):
    """The number of a name that the caller gave, from 1: a step on the way to a part of the schema."""


_At = tuple[str | int, ...]


def read_output_schema(given: object, at: _At = ("output",)) -> str:
    """Returns the schema as JSON text, in the form that replies are held to.

    Raises InvalidRequest, or ValueRefused with one of the codes `schema_too_large`, `schema_too_complex`,
    `schema_invalid`, `schema_refers` and `schema_unsatisfiable`. The place that is named ends before the first name of
    the caller's, of which only the number is said.
    """
    if not isinstance(given, dict):
        raise InvalidRequest("wrong_type", _pointer(at))
    if depth_of(given) > MOST_DEPTH or len(to_json(given).encode()) > MAX_SCHEMA_BYTES:
        _refuse("schema_too_large", at, maximum=MAX_SCHEMA_BYTES)
    if any(map(has_foreign_controls, _texts(given))):
        raise InvalidRequest("control_character", _pointer(at))
    if not _is_finite(given):
        _refuse("schema_invalid", at)
    reader = _Reader(given, at)
    schema = reader.read(given, at)
    while "$ref" in schema:
        schema = {**reader.definition(schema["$ref"]), **{name: schema[name] for name in _NOTES if name in schema}}
    if schema.get("type") != "object":
        _refuse("schema_invalid", at)
    used = reader.used_from(schema)
    whole = {**schema, **({"$defs": used} if used else {})}
    _require_simple(whole, at)
    form = to_json(whole)
    if len(form.encode()) > MOST_FORM_BYTES:
        _refuse("schema_too_large", at, maximum=MAX_SCHEMA_BYTES)
    return form


def require_uncited(message: Message) -> None:
    """Raises ValueRefused for a message with citations, which no reply by a schema can give."""
    for number, block in enumerate(message.blocks):
        within = block.get("content") if block["type"] == "tool_result" else None
        for each in (block, *(within if isinstance(within, list) else ())):
            if (each.get("citations") or {}).get("enabled"):
                _refuse("citations_with_output", ("message", number))


class _Reader:
    """One schema while it is read; `used` are the definitions that something in it refers to, in their form."""

    def __init__(self, root: Schema, at: _At) -> None:
        self._definitions: dict[str, tuple[Any, _At]] = {}
        self._reading: set[str] = set()
        self.used: dict[str, Schema] = {}
        for keyword in ("$defs", "definitions"):
            given = root.get(keyword, {})
            if not isinstance(given, dict) or given.keys() & {"", *self._definitions}:
                _refuse("schema_invalid", (*at, keyword))
            for number, (name, each) in enumerate(given.items(), start=1):
                self._definitions[name] = each, (*at, keyword, _Named(number))

    def definition(self, reference: str) -> Schema:
        """The definition that a reference in its form leads to."""
        return self.used[_name_in(reference)]

    def used_from(self, schema: Schema) -> dict[str, Schema]:
        """The definitions to which this part leads; each comes after those that it refers to itself."""
        found: set[str] = set()
        waiting = [schema]
        while waiting:
            for part in _parts(waiting.pop()):
                if "$ref" in part and (name := _name_in(part["$ref"])) not in found:
                    found.add(name)
                    waiting.append(self.used[name])
        return {name: each for name, each in self.used.items() if name in found}

    def read(self, given: Any, at: _At) -> Schema:
        """Returns a part of the schema in its form. Raises as `read_output_schema`."""
        if not isinstance(given, dict):
            _refuse("schema_invalid", at)
        self._require_known(given, at)
        notes = self._notes(given, at)
        whole = [name for name in _WHOLE if name in given]
        asserted = given.keys() & {"type", "enum", "const", *_OF_ANY_TYPE}
        if len(whole) > 1 or (whole and asserted and whole != ["allOf"]):
            _refuse("schema_invalid", at)
        if whole == ["$ref"]:
            return {"$ref": self._referred(given["$ref"], (*at, "$ref")), **notes}
        if whole == ["allOf"]:
            return {**self._merged(given, at), **notes}
        if whole:
            [keyword] = whole
            options = [self.read(each, where) for each, where in _items(given[keyword], (*at, keyword))]
            return {keyword: options, **notes}
        if "enum" in given or "const" in given:
            return {**self._fixed(given, at), **notes}
        return {**self._typed(given, at), **notes}

    @staticmethod
    def _require_known(given: Schema, at: _At) -> None:
        known = {"type", "enum", "const", *_OF_ANY_TYPE, *_WHOLE, *_NOTES, *_IGNORED}
        for number, name in enumerate(given, start=1):
            if name not in known:
                _refuse("schema_invalid", at, field=number, allowed=sorted(known))

    @staticmethod
    def _notes(given: Schema, at: _At) -> Schema:
        for name in ("title", "description"):
            if not isinstance(given.get(name, ""), str):
                _refuse("schema_invalid", (*at, name))
        return {name: given[name] for name in _NOTES if name in given}

    def _referred(self, reference: object, at: _At) -> str:
        """Returns the reference in its form, once the definition is read."""
        name = _name_in(reference) if isinstance(reference, str) else ""
        if name not in self._definitions or name in self._reading:
            _refuse("schema_refers", at)
        if name not in self.used:
            if len(self._reading) >= MOST_DEPTH:
                _refuse("schema_too_large", at, maximum=MAX_SCHEMA_BYTES)
            self._reading.add(name)
            self.used[name] = self.read(*self._definitions[name])
            self._reading.remove(name)
        return "#/$defs/" + name.replace("~", "~0").replace("/", "~1")

    def _merged(self, given: Schema, at: _At) -> Schema:
        """Returns what all of `allOf`, and what stands beside it, amount to: one schema, or several of objects."""
        rest = {name: each for name, each in given.items() if name not in ("allOf", *_NOTES, *_IGNORED)}
        members = _items(given["allOf"], (*at, "allOf"))
        read = [self._resolved(self.read(each, where)) for each, where in members]
        if rest:
            read.append(self.read(rest, at))
        elif len(read) == 1:
            return read[0]
        merged: Schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
        for each, (member, where) in zip(read, [*members, (rest, at)], strict=False):
            if each.get("type") != "object" or each["properties"].keys() & merged["properties"].keys():
                _refuse("schema_invalid", where)
            if self._is_closed(member):  # to all that the others have
                _refuse("schema_unsatisfiable", where)
            merged["properties"] |= each["properties"]
            merged["required"] += each["required"]
        return merged

    def _is_closed(self, member: Schema) -> bool:
        while "$ref" in member:
            member = self._definitions[_name_in(member["$ref"])][0]
        return "additionalProperties" in member

    def _resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            schema = self.definition(schema["$ref"])
        return schema

    def _fixed(self, given: Schema, at: _At) -> Schema:
        """Returns the values that are allowed: those of `enum` and `const` that all else in the schema allows."""
        values = given["enum"] if "enum" in given else [given["const"]]
        where = (*at, "enum" if "enum" in given else "const")
        if not isinstance(values, list) or not all(isinstance(each, _PLAIN) for each in values):
            _refuse("schema_invalid", where)
        if "const" in given:
            values = [each for each in values if fits(each, {"enum": [given["const"]]}, {})]
        if given.keys() & {"type", *_OF_ANY_TYPE}:
            rest = {name: given[name] for name in ("type", *_OF_ANY_TYPE) if name in given}
            form = self._typed(rest, at)
            values = [each for each in values if fits(each, form, self.used)]
        if not values:
            _refuse("schema_unsatisfiable", where)
        return {"enum": values}

    def _typed(self, given: Schema, at: _At) -> Schema:
        kinds = given.get("type")
        names = [kinds] if isinstance(kinds, str) else kinds
        if not isinstance(names, list) or not names or not all(isinstance(each, str) for each in names):
            _refuse("schema_invalid", (*at, "type") if "type" in given else at)
        if not all(each in _BOUNDS for each in names) or len(set(names)) < len(names):
            _refuse("schema_invalid", (*at, "type"), allowed=list(_BOUNDS))
        read = [self._of_type(each, given, at) for each in names]
        return read[0] if len(read) == 1 else {"anyOf": read}

    def _of_type(self, kind: str, given: Schema, at: _At) -> Schema:
        bounds = {name: given[name] for name in _BOUNDS[kind] if name in given}
        if kind == "object":
            return self._object(bounds, at)
        for name, value in bounds.items():
            self._require_bound(name, value, (*at, name))
        if kind == "array":
            if "items" not in bounds:
                _refuse("schema_invalid", at)
            bounds["items"] = self.read(given["items"], (*at, "items"))
        if _is_empty(kind, bounds):
            _refuse("schema_unsatisfiable", at)
        return {"type": kind, **bounds}

    def _object(self, given: Schema, at: _At) -> Schema:
        properties, required = given.get("properties", {}), given.get("required", [])
        if not isinstance(properties, dict) or given.get("additionalProperties", False) is not False:
            _refuse("schema_invalid", (*at, "additionalProperties" if isinstance(properties, dict) else "properties"))
        if not isinstance(required, list) or not all(isinstance(each, str) for each in required):
            _refuse("schema_invalid", (*at, "required"))
        if not properties.keys() >= set(required):
            _refuse("schema_unsatisfiable", (*at, "required"))
        read = {
            name: self.read(each, (*at, "properties", _Named(number)))
            for number, (name, each) in enumerate(properties.items(), start=1)
        }
        return {
            "type": "object",
            "properties": read,
            "required": list(dict.fromkeys(required)),
            "additionalProperties": False,
        }

    @staticmethod
    def _require_bound(name: str, value: Any, at: _At) -> None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        right = {
            **dict.fromkeys(_SIZES, is_number and value >= 0 and value == int(value)),
            **dict.fromkeys(_NUMBERS, is_number),
            "multipleOf": is_number and value > 0,
            "uniqueItems": isinstance(value, bool),
            "format": isinstance(value, str),
            "pattern": isinstance(value, str) and pattern_of(value) is not None,
        }
        if not right.get(name, True):
            _refuse("schema_invalid", at)


def _is_empty(kind: str, bounds: Schema) -> bool:
    """True if the bounds evidently let no value pass."""
    least = [bounds[name] for name in ("minItems", "minLength", "minimum", "exclusiveMinimum") if name in bounds]
    most = [bounds[name] for name in ("maxItems", "maxLength", "maximum", "exclusiveMaximum") if name in bounds]
    if not least or not most:
        return False
    if max(least) != min(most):
        return bool(max(least) > min(most)) or (kind == "integer" and not _has_integer(bounds))
    return max(least) in (bounds.get("exclusiveMinimum"), bounds.get("exclusiveMaximum"))


def _has_integer(bounds: Schema) -> bool:
    """True if an integer lies between the bounds of numbers."""
    lowest = [-(-bounds["minimum"] // 1)] if "minimum" in bounds else []
    lowest += [bounds["exclusiveMinimum"] // 1 + 1] if "exclusiveMinimum" in bounds else []
    highest = [bounds["maximum"] // 1] if "maximum" in bounds else []
    highest += [-(-bounds["exclusiveMaximum"] // 1) - 1] if "exclusiveMaximum" in bounds else []
    return bool(max(lowest) <= min(highest))


def _require_simple(schema: Schema, at: _At) -> None:
    """Raises ValueRefused for more optional properties, unions or parts than the provider, or a check, can take."""
    parts = list(_parts(schema))
    optional = sum(len(each["properties"]) - len(each["required"]) for each in parts if each.get("type") == "object")
    unions = sum(1 for each in parts if each.keys() & {"anyOf", "oneOf"})
    for count, most in ((optional, MOST_OPTIONAL), (unions, MOST_UNIONS)):
        if count > most:
            _refuse("schema_too_complex", at, maximum=most)
    sizes: dict[str, tuple[int, int]] = {}
    for name, each in schema.get("$defs", {}).items():  # those that one refers to come before it
        sizes[name] = _size(each, sizes)
    count, depth = _size(schema, sizes)
    if depth > MOST_DEPTH:
        _refuse("schema_too_large", at, maximum=MAX_SCHEMA_BYTES)
    if count > MOST_PARTS:
        _refuse("schema_too_complex", at, maximum=MOST_PARTS)


def _parts(schema: Schema) -> Iterator[Schema]:
    yield schema
    for each in [*_children(schema), *schema.get("$defs", {}).values()]:
        yield from _parts(each)


def _children(schema: Schema) -> list[Schema]:
    items = [schema["items"]] if "items" in schema else []
    return [*schema.get("properties", {}).values(), *items, *schema.get("anyOf", []), *schema.get("oneOf", [])]


def _size(schema: Schema, sizes: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Returns the number of parts and the levels, of what a reference leads to as well."""
    if "$ref" in schema:
        return sizes[_name_in(schema["$ref"])]
    within = [_size(each, sizes) for each in _children(schema)]
    return 1 + sum(count for count, _ in within), 1 + max((depth for _, depth in within), default=0)


def _name_in(reference: str) -> str:
    """The name of the definition that a reference leads to; empty when it leads anywhere else."""
    for beginning in ("#/$defs/", "#/definitions/"):
        name = reference.removeprefix(beginning)
        if name != reference and "/" not in name:
            return name.replace("~1", "/").replace("~0", "~")
    return ""


def _items(given: Any, at: _At) -> Sequence[tuple[Any, _At]]:
    if not isinstance(given, list) or not given:
        _refuse("schema_invalid", at)
    return [(each, (*at, number)) for number, each in enumerate(given)]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value


def _refuse(code: str, at: _At, **details: Any) -> NoReturn:
    named = next((index for index, step in enumerate(at) if isinstance(step, _Named)), None)
    if named is not None:  # the number of a name in the schema itself, then of one further within
        details = {"field": int(at[named])}
    raise ValueRefused(code, _pointer(at[:named]), details)


def _pointer(at: _At) -> str:
    return "".join(f"/{step}" for step in at)


def output_of(text: str, schema: str) -> Schema | None:
    """Returns the object that the text is; None unless the schema, in its form, allows it."""
    form = json.loads(schema)
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        to_json(value).encode()  # half of a surrogate pair cannot be sent
        return value if isinstance(value, dict) and fits(value, form, form.get("$defs", {})) else None
    except (ValueError, RecursionError):
        return None


def output_in(reply: Reply, schema: str) -> Schema | None:
    """Returns the object that the reply is; None for one that calls the caller's tools, and so is not the last.

    The stop reason comes first: a reply that was cut off or refused is no answer, even if what there is of it fits.
    Raises OutputInvalid for a last reply that is no such object.
    """
    if reply.stop_reason == "tool_use":
        return None
    texts = [block["text"] for block in reply.message.blocks if block["type"] == "text"]
    # What is said before a search is a text of its own, and only the last one is the answer then.
    for text in ("".join(texts), *texts[-1:]) if reply.stop_reason in _WHOLE_REPLIES else ():
        if bytes_in_answer(text) <= MOST_OUTPUT_BYTES and (output := output_of(text, schema)) is not None:
            return output
    raise OutputInvalid(reply.stop_reason)


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def _is_finite(value: object) -> bool:
    """False for a number that is too large for JSON's readers, which is infinite then."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True

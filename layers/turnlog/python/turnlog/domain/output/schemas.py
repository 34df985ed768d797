"""Schemas of the object that a reply must be: checked before anything is paid, and put into one form.

In that form objects are closed, each part has one type or is one of several, and nothing refers to itself. It is what
replies are held to; the adapter makes of it what the provider takes, which has no bounds of values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from turnlog.domain.json_schemas import MAX_SCHEMA_BYTES, MOST_DEPTH, depth_of
from turnlog.domain.messages import has_foreign_controls, to_json
from turnlog.domain.output.bounds import BOUNDS, is_empty, require_bound
from turnlog.domain.output.paths import At, Named, name_in, pointer_of, refuse
from turnlog.domain.output.sizes import MOST_PATTERNS, parts_of, require_simple
from turnlog.domain.output.values import fits
from turnlog.errors import InvalidRequest

Schema = dict[str, Any]

_NOTES = ("title", "description", "default", "examples")
_IGNORED = ("$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly", "$defs", "definitions")
_OF_ANY_TYPE = frozenset(name for names in BOUNDS.values() for name in names)
_WHOLE = ("$ref", "anyOf", "oneOf", "allOf")
"""Keywords that stand alone, beside notes: the provider does not take them together with others."""

_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """A schema as a request has it and in its form, both as JSON text.

    Only the first says which request it is: another version may have another form.
    """

    asked: str
    form: str


def read_output_schema(given: object, at: At = ("output",)) -> str:
    """Returns the schema as JSON text, in the form that replies are held to.

    Raises InvalidRequest, or ValueRefused with one of the codes `schema_too_large`, `schema_too_complex`,
    `schema_invalid`, `schema_refers` and `schema_unsatisfiable`. The place that is named ends before the first name of
    the caller's, of which only the number is said.
    """
    if not isinstance(given, dict):
        raise InvalidRequest("wrong_type", pointer_of(at))
    if depth_of(given) > MOST_DEPTH or len(to_json(given).encode()) > MAX_SCHEMA_BYTES:
        refuse("schema_too_large", at, maximum=MAX_SCHEMA_BYTES)
    if any(map(has_foreign_controls, _texts(given))):
        raise InvalidRequest("control_character", pointer_of(at))
    if not _is_finite(given):
        refuse("schema_invalid", at)
    if to_json(given).count('"pattern":') > MOST_PATTERNS:  # before one is read; a property of that name counts, too
        refuse("schema_too_complex", at, maximum=MOST_PATTERNS)
    reader = _Reader(given, at)
    schema = reader.read(given, at)
    while "$ref" in schema:
        schema = {**reader.definition(schema["$ref"]), **{name: schema[name] for name in _NOTES if name in schema}}
    if schema.get("type") != "object":
        refuse("schema_invalid", at)
    used = reader.used_from(schema)
    whole = {**schema, **({"$defs": used} if used else {})}
    require_simple(whole, at)
    return to_json(whole)


class _Reader:
    """One schema while it is read; `used` are the definitions that something in it refers to, in their form."""

    def __init__(self, root: Schema, at: At) -> None:
        self._definitions: dict[str, tuple[Any, At]] = {}
        self._reading: set[str] = set()
        self.used: dict[str, Schema] = {}
        for keyword in ("$defs", "definitions"):
            given = root.get(keyword, {})
            if not isinstance(given, dict) or given.keys() & {"", *self._definitions}:
                refuse("schema_invalid", (*at, keyword))
            for number, (name, each) in enumerate(given.items(), start=1):
                self._definitions[name] = each, (*at, keyword, Named(number))

    def definition(self, reference: str) -> Schema:
        """The definition that a reference in its form leads to."""
        return self.used[name_in(reference)]

    def used_from(self, schema: Schema) -> dict[str, Schema]:
        """The definitions to which this part leads; each comes after those that it refers to itself."""
        found: set[str] = set()
        waiting = [schema]
        while waiting:
            for part in parts_of(waiting.pop()):
                if "$ref" in part and (name := name_in(part["$ref"])) not in found:
                    found.add(name)
                    waiting.append(self.used[name])
        return {name: each for name, each in self.used.items() if name in found}

    def read(self, given: Any, at: At) -> Schema:
        """Returns a part of the schema in its form. Raises as `read_output_schema`."""
        if not isinstance(given, dict):
            refuse("schema_invalid", at)
        self._require_known(given, at)
        notes = self._notes(given, at)
        whole = [name for name in _WHOLE if name in given]
        asserted = given.keys() & {"type", "enum", "const", *_OF_ANY_TYPE}
        if len(whole) > 1 or (whole and asserted and whole != ["allOf"]):
            refuse("schema_invalid", at)
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
    def _require_known(given: Schema, at: At) -> None:
        known = {"type", "enum", "const", *_OF_ANY_TYPE, *_WHOLE, *_NOTES, *_IGNORED}
        for number, name in enumerate(given, start=1):
            if name not in known:
                refuse("schema_invalid", at, field=number, allowed=sorted(known))

    @staticmethod
    def _notes(given: Schema, at: At) -> Schema:
        for name in ("title", "description"):
            if not isinstance(given.get(name, ""), str):
                refuse("schema_invalid", (*at, name))
        return {name: given[name] for name in _NOTES if name in given}

    def _referred(self, reference: object, at: At) -> str:
        """Returns the reference in its form, once the definition is read."""
        name = name_in(reference) if isinstance(reference, str) else ""
        if name not in self._definitions or name in self._reading:
            refuse("schema_refers", at)
        if name not in self.used:
            if len(self._reading) >= MOST_DEPTH:
                refuse("schema_too_large", at, maximum=MAX_SCHEMA_BYTES)
            self._reading.add(name)
            self.used[name] = self.read(*self._definitions[name])
            self._reading.remove(name)
        return "#/$defs/" + name.replace("~", "~0").replace("/", "~1")

    def _merged(self, given: Schema, at: At) -> Schema:
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
                refuse("schema_invalid", where)
            if self._is_closed(member):  # to all that the others have
                refuse("schema_unsatisfiable", where)
            merged["properties"] |= each["properties"]
            merged["required"] += each["required"]
        return merged

    def _is_closed(self, member: Schema) -> bool:
        while "$ref" in member:
            member = self._definitions[name_in(member["$ref"])][0]
        return "additionalProperties" in member

    def _resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            schema = self.definition(schema["$ref"])
        return schema

    def _fixed(self, given: Schema, at: At) -> Schema:
        """Returns the values that are allowed: those of `enum` and `const` that all else in the schema allows."""
        values = given["enum"] if "enum" in given else [given["const"]]
        where = (*at, "enum" if "enum" in given else "const")
        if not isinstance(values, list) or not all(isinstance(each, _PLAIN) for each in values):
            refuse("schema_invalid", where)
        if "const" in given:
            values = [each for each in values if fits(each, {"enum": [given["const"]]}, {})]
        if given.keys() & {"type", *_OF_ANY_TYPE}:
            rest = {name: given[name] for name in ("type", *_OF_ANY_TYPE) if name in given}
            form = self._typed(rest, at)
            values = [each for each in values if fits(each, form, self.used)]
        if not values:
            refuse("schema_unsatisfiable", where)
        return {"enum": values}

    def _typed(self, given: Schema, at: At) -> Schema:
        kinds = given.get("type")
        names = [kinds] if isinstance(kinds, str) else kinds
        if not isinstance(names, list) or not names or not all(isinstance(each, str) for each in names):
            refuse("schema_invalid", (*at, "type") if "type" in given else at)
        if not all(each in BOUNDS for each in names) or len(set(names)) < len(names):
            refuse("schema_invalid", (*at, "type"), allowed=list(BOUNDS))
        read = [self._of_type(each, given, at) for each in names]
        return read[0] if len(read) == 1 else {"anyOf": read}

    def _of_type(self, kind: str, given: Schema, at: At) -> Schema:
        bounds = {name: given[name] for name in BOUNDS[kind] if name in given}
        if kind == "object":
            return self._object(bounds, at)
        for name, value in bounds.items():
            require_bound(name, value, (*at, name))
        if kind == "array":
            if "items" not in bounds:
                refuse("schema_invalid", at)
            bounds["items"] = self.read(given["items"], (*at, "items"))
        if is_empty(kind, bounds):
            refuse("schema_unsatisfiable", at)
        return {"type": kind, **bounds}

    def _object(self, given: Schema, at: At) -> Schema:
        properties, required = given.get("properties", {}), given.get("required", [])
        if not isinstance(properties, dict) or given.get("additionalProperties", False) is not False:
            refuse("schema_invalid", (*at, "additionalProperties" if isinstance(properties, dict) else "properties"))
        if not isinstance(required, list) or not all(isinstance(each, str) for each in required):
            refuse("schema_invalid", (*at, "required"))
        if not properties.keys() >= set(required):
            refuse("schema_unsatisfiable", (*at, "required"))
        read = {
            name: self.read(each, (*at, "properties", Named(number)))
            for number, (name, each) in enumerate(properties.items(), start=1)
        }
        return {
            "type": "object",
            "properties": read,
            "required": list(dict.fromkeys(required)),
            "additionalProperties": False,
        }


def _items(given: Any, at: At) -> Sequence[tuple[Any, At]]:
    if not isinstance(given, list) or not given:
        refuse("schema_invalid", at)
    return [(each, (*at, number)) for number, each in enumerate(given)]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value


def _is_finite(value: object) -> bool:
    """False for a number that is too large for JSON's readers, which is infinite then."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True

"""Values that fit a JSON schema, made from a text: the same text and schema give the same value."""

from __future__ import annotations

import math
import re
from typing import Any

from local.claude_stand_in.sentences import sentences, summary

Schema = dict[str, Any]

_DEEPEST = 8  # below this depth fields that are not required are left out, so that a schema may name itself
_MOST_ITEMS = 3
_MOST = 1_000  # items or characters, whatever a schema demands
_TITLE_WORDS = 6
FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "date": "2026-01-01",
    "duration": "P1D",
    "email": "ada@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_IN_TEXT = {  # what a text may have for a field with such a word in its name or description
    "zone": re.compile(r"\b(?:[A-Z][A-Za-z]+/[A-Z][\w+-]*(?:/[A-Z]\w*)?|UTC|GMT)\b"),
    "url": re.compile(r"https?://[^\s<>\"')]+"),
    "email": re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+\w"),
    "date": re.compile(r"\b\d{4}-\d\d-\d\d\b"),
}
_INSTEAD = {"zone": "UTC", "url": "https://example.com/", "language": "en", "lang": "en"}
_QUOTED = re.compile(r"[\"“`']([^\"”`'\n]{1,200})[\"”`']")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\w)")


def object_for(schema: Schema, text: str, mark: str = "", *, optional: bool = True) -> Any:
    """A value that fits `schema`: enums take what the text names, texts and numbers come from it where they can.

    The first free text begins with `mark`. Without `optional` only required fields are filled, and those that the text
    has something for.
    """
    return _Maker(schema, text, mark, optional=optional).value(schema, "", 0)


def found_in(text: str, field: str) -> str:
    """The value in a text for a field of this name and description: a zone, an address, a date; "" for none."""
    for word, pattern in _IN_TEXT.items():
        if word in field.lower() and (found := pattern.search(text)):
            return found[0].rstrip(".,;?!")
    return ""


class _Maker:
    """Makes one value. A schema of a tool can be anything: what is no schema counts as one that allows all."""

    def __init__(self, root: Schema, text: str, mark: str, *, optional: bool) -> None:
        self._root = root
        self._text = text
        self._mark = mark
        self._optional = optional

    def value(self, schema: Any, name: str, depth: int) -> Any:
        """The value for a field with this name and description, so deep in the whole."""
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if _list(schema, "enum"):
            return self._one_of(schema["enum"])
        kind = _kind(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind in ("integer", "number"):
            return self._number(schema, name, kind)
        return {"boolean": True, "null": None}[kind] if kind in ("boolean", "null") else self._string(schema, name)

    def _resolved(self, given: Any) -> Schema:
        schema: Schema = given if isinstance(given, dict) else {}
        for _ in range(_DEEPEST):
            options = _list(schema, "anyOf") or _list(schema, "oneOf")
            if options:
                chosen = next((each for each in options if _kind(each) != "null"), options[0])
                schema = _without(schema, "anyOf", "oneOf") | (chosen if isinstance(chosen, dict) else {})
            elif "$ref" in schema:
                schema = _without(schema, "$ref") | self._at(str(schema["$ref"]))
            elif "allOf" in schema:
                schema = _merged(schema)
            else:
                break
        return schema

    def _at(self, ref: str) -> Schema:
        """The schema that a reference of this document names; one that allows all when there is none."""
        found: Any = self._root
        for key in ref.removeprefix("#").strip("/").split("/"):
            if key and isinstance(found, dict):
                found = found.get(key.replace("~1", "/").replace("~0", "~"), {})
        return found if isinstance(found, dict) else {}

    def _one_of(self, values: list[Any]) -> Any:
        named = (each for each in values if isinstance(each, str) and re.search(rf"\b{re.escape(each)}\b", self._text))
        return next(named, values[0])

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        required = [name for name in _list(schema, "required") if isinstance(name, str)]
        properties = schema.get("properties")
        made = {}
        for name, each in properties.items() if isinstance(properties, dict) else []:
            hinted = f"{name} {each.get('description', '')}" if isinstance(each, dict) else name
            wanted = (self._optional and depth < _DEEPEST) or bool(found_in(self._text, hinted))
            if depth < 2 * _DEEPEST and (name in required or wanted):
                made[name] = self.value(each, hinted, depth + 1)
        for name in required:
            made.setdefault(name, self._free_text(name, {}))
        return made

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        least, most = _bound(schema, "minItems", 0), _bound(schema, "maxItems", _MOST_ITEMS)
        if depth >= _DEEPEST:
            most = least
        items = schema.get("items")
        if _kind(self._resolved(items)) == "string" and not _is_fixed(items):
            texts = list(dict.fromkeys(sentences(self._text)))[: min(most, _MOST_ITEMS)]
            return texts + [f"{name} {number}" for number in range(len(texts), least)]
        return [self.value(items, name, depth + 1) for _ in range(min(max(least, 1), most))]

    def _number(self, schema: Schema, name: str, kind: str) -> int | float:
        above = _bound(schema, "exclusiveMinimum", 0)
        least, most = _bound(schema, "minimum", above + 1), _bound(schema, "maximum", 10**9)
        numbers = [] if "line" in name.lower() else _NUMBER.findall(self._text)
        found = (float(each) for each in numbers)
        number = next((each for each in found if least <= each <= most and (kind == "number" or each % 1 == 0)), least)
        return int(number) if kind == "integer" or number % 1 == 0 else number

    def _string(self, schema: Schema, name: str) -> str:
        form = str(schema.get("format"))
        if form in FORMATS:
            return found_in(self._text, form) or FORMATS[form]
        return self._free_text(name, schema)

    def _free_text(self, name: str, schema: Schema) -> str:
        field = name.partition(" ")[0].lower()
        instead = next((each for word, each in _INSTEAD.items() if word in field), "")
        made = found_in(self._text, name) or instead
        if not made:
            made, self._mark = self._mark + self._prose(field), ""
        least, most = _bound(schema, "minLength", 0), _bound(schema, "maxLength", len(made) + _MOST)
        return (made + "." * (least - len(made)))[:most]

    def _prose(self, field: str) -> str:
        if "summary" in field:
            return summary(self._text)
        if quoted := _QUOTED.search(self._text):
            return quoted[1]
        words = self._text.split()
        if "title" in field or "name" in field:
            return " ".join(words[:_TITLE_WORDS])
        return next(iter(sentences(self._text)), "nothing")


def _kind(schema: Any) -> str:
    schema = schema if isinstance(schema, dict) else {}
    kind = schema.get("type") or ("object" if "properties" in schema else "array" if "items" in schema else "string")
    return next((str(each) for each in kind if each != "null"), "null") if isinstance(kind, list) else str(kind)


def _list(schema: Schema, name: str) -> list[Any]:
    found = schema.get(name)
    return found if isinstance(found, list) else []


def _bound(schema: Schema, name: str, otherwise: int) -> int:
    """A bound of a schema, itself bounded: nobody gets a million items."""
    found = schema.get(name)
    number = math.ceil(found) if isinstance(found, int | float) else otherwise
    return max(-(10**9), min(number, _MOST if name in ("minItems", "minLength") else 10**9))


def _without(schema: Schema, *names: str) -> Schema:
    return {name: each for name, each in schema.items() if name not in names}


def _merged(schema: Schema) -> Schema:
    merged: Schema = _without(schema, "allOf")
    for each in _list(schema, "allOf"):
        for name, value in each.items() if isinstance(each, dict) else []:
            old = merged.get(name)
            if isinstance(old, dict) and isinstance(value, dict):
                merged[name] = old | value
            elif isinstance(old, list) and isinstance(value, list):
                merged[name] = old + value
            else:
                merged[name] = value
    return merged


def _is_fixed(schema: Any) -> bool:
    return isinstance(schema, dict) and bool(schema.keys() & {"enum", "const", "format", "$ref", "anyOf"})

"""A table of comma-separated values in a text, and its description by its columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass

_DELIMITERS = ",;\t"
_LONGEST_TITLE = 40  # characters: what is longer is prose with a comma in it
_SHOWN_VALUES = 3
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
_TAG = re.compile(r"</?\w[^<>]*>")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of equal length under the titles of their columns."""

    titles: list[str]
    rows: list[list[str]]

    def description(self) -> str:
        """The number of rows and what each column has."""
        columns = [f"{title} ({_kind(list(values))})" for title, *values in zip(self.titles, *self.rows, strict=True)]
        return f"A table of {len(self.rows)} rows and {len(columns)} columns: {', '.join(columns)}."


def table_in(text: str) -> Table | None:
    """The table that ends a text, after its first lines if need be; None when there is none of two rows and columns."""
    lines = [line for line in text.splitlines() if _TAG.sub("", line).strip()]
    for start in range(len(lines) - 2):
        for delimiter in _DELIMITERS:
            if table := _table_from(csv.reader(lines[start:], delimiter=delimiter, skipinitialspace=True)):
                return table
    return None


def _table_from(cells: Iterator[list[str]]) -> Table | None:
    """The table of all these rows; they are read only as far as they can be one, since a text may be a megabyte."""
    rows: list[list[str]] = []
    try:
        titles = next(cells, [])
        for row in cells if _are_titles(titles) else ():
            if len(row) != len(titles):
                return None
            rows.append(row)
    except csv.Error:  # a cell of more than 128 KB
        return None
    return Table(titles, rows) if rows else None


def _are_titles(cells: list[str]) -> bool:
    return 1 < len(cells) == len(set(cells)) and all(
        0 < len(cell) <= _LONGEST_TITLE and cell[-1] not in ".!?:" and not _NUMBER.fullmatch(cell) for cell in cells
    )


def _kind(values: list[str]) -> str:
    filled = [value for value in values if value]
    if not filled:
        return "empty"
    missing = f", {len(values) - len(filled)} empty" if len(filled) < len(values) else ""
    if all(_NUMBER.fullmatch(value) for value in filled):
        return f"{min(filled, key=float)} to {max(filled, key=float)}{missing}"
    different = list(dict.fromkeys(filled))
    shown = ", ".join(different[:_SHOWN_VALUES])
    return f"{shown}{f' and {len(different) - _SHOWN_VALUES} more' if len(different) > _SHOWN_VALUES else ''}{missing}"

"""The items of a simulated DynamoDB, and those of a moment ago: only a read of a single item is promised a snapshot."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from tests.promises.simulator.attribute_values import Item, Value, size

STALE_MS = 2000
"""The age of an eventually consistent read at most. AWS says "usually within one second" and promises nothing."""

Key = tuple[str, str]
"""Partition key and sort key, both texts."""

Watch = Callable[[str, Key, Item | None, Item | None], None]
"""Called for each write with the table, the key, the old item and the new one."""


class Stored(dict[str, Value]):
    """An item in a table, never changed."""

    @cached_property
    def bytes(self) -> int:
        """Counts like DynamoDB."""
        return size(self)


@dataclass(slots=True)
class Cell:
    """One key: its item, and its earlier items, each with the instant and the time at which that ended."""

    item: Stored | None = None
    past: list[tuple[int, int, Stored | None]] = field(default_factory=list)


@dataclass
class _Table:
    """The cells by partition and sort key, and the sort keys in order. An empty cell keeps its key."""

    partitions: dict[str, dict[str, Cell]] = field(default_factory=dict)
    order: dict[str, list[str]] = field(default_factory=dict)


class Tables:
    """Tables that exist from their first use on. `instant` counts the writes; `now_ms` tells the time.

    A read began at the instant `view_from`. It may see each item as it was then or at any time since, and `chance`
    decides.
    """

    def __init__(self, now_ms: Callable[[], int], chance: random.Random) -> None:
        self.now_ms = now_ms
        self.instant = 0
        self.view_from: int | None = None
        self.watches: list[Watch] = []
        self._chance = chance
        self._tables: defaultdict[str, _Table] = defaultdict(_Table)

    def items(self, table: str) -> list[Item]:
        """Returns all of the table, by partition and sort key. Do not change them."""
        partitions = self._tables.get(table, _Table()).partitions
        cells = (cell for pk in sorted(partitions) for _, cell in sorted(partitions[pk].items()))
        return [cell.item for cell in cells if cell.item is not None]

    def partition(self, table: str, pk: str) -> list[Item]:
        """Returns the items of one partition by sort key. Do not change them."""
        found = self._tables[table].partitions.get(pk, {})
        return [cell.item for _, cell in sorted(found.items()) if cell.item is not None]

    def now(self, table: str, key: Key) -> Stored | None:
        """Returns the item of this very instant, which is the one that a condition is about."""
        cell = self._tables[table].partitions.get(key[0], {}).get(key[1])
        return cell.item if cell else None

    def read(self, table: str, key: Key, *, consistent: bool) -> Stored | None:
        """Returns an item that a read may see."""
        cell = self._tables[table].partitions.get(key[0], {}).get(key[1])
        if cell is None or not cell.past:
            return cell.item if cell else None
        began = self.instant if self.view_from is None else self.view_from
        stale_from_ms = self.now_ms() - STALE_MS
        held = [item for until, ms, item in cell.past if until > began or (not consistent and ms > stale_from_ms)]
        return self._chance.choice([*held, cell.item]) if held else cell.item

    def sort_keys(self, table: str, pk: str, *, after: str | None, forward: bool) -> Iterator[str]:
        """Returns the keys of a partition in this direction. Some may hold nothing."""
        order = self._tables[table].order.get(pk, [])
        if forward:
            return iter(order[0 if after is None else bisect_right(order, after) :])
        return reversed(order[: len(order) if after is None else bisect_left(order, after)])

    def write(self, table: str, key: Key, item: Item | None) -> None:
        """Puts the item, or removes it. To put the same item again is no write."""
        cell = self._cell(table, key)
        old = cell.item
        if item is old:
            return
        self.instant += 1
        cell.past.append((self.instant, self.now_ms(), old))
        cell.item = None if item is None else Stored(item)
        for watch in self.watches:
            watch(table, key, old, item)

    def _cell(self, table: str, key: Key) -> Cell:
        known = self._tables[table]
        partition = known.partitions.setdefault(key[0], {})
        if key[1] not in partition:
            partition[key[1]] = Cell()
            insort(known.order.setdefault(key[0], []), key[1])
        return partition[key[1]]

"""All that was ever written to the tables: the slots and headers of every session, and the counters of allowances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property

from tests.promises.attribute_values import Item
from tests.promises.simulated_tables import Key, Tables
from turnlog.sessions import Slot, Turn
from turnlog.stores.dynamodb.items import HEADER, slots_of


@dataclass
class Version:
    """What a slot held from that time on; `state` is empty when it held nothing. `parts` are those of a large turn."""

    at_ms: int
    number: int
    item: Item | None
    parts: list[Item] = field(default_factory=list)

    @property
    def state(self) -> str:
        return str(self.item["st"]["S"]) if self.item else ""

    @cached_property
    def slot(self) -> Slot | None:
        """What it is a version of; None when it is empty."""
        return slots_of([self.item, *self.parts])[0] if self.item else None

    @property
    def turn(self) -> Turn:
        """Of a version that is done."""
        assert isinstance(self.slot, Turn)
        return self.slot


@dataclass
class Journal:
    """Of one run, from its first write on. `limits` are those of the allowances, by their kind; `charged` is what each
    counter came to.
    """

    tables: Tables
    sessions_table: str
    usage_table: str
    limits: dict[str, Decimal] = field(default_factory=dict)
    charged: dict[Key, Decimal] = field(default_factory=dict)
    overdrawn: list[str] = field(default_factory=list)
    headers: dict[str, Item] = field(default_factory=dict)
    made_ms: dict[str, int] = field(default_factory=dict)
    _versions: dict[str, list[Version]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.tables.watches.append(self._note)

    def versions(self, pk: str) -> list[Version]:
        """Of all slots of a session, in the order in which they were written."""
        return self._versions.get(pk, [])

    def stored(self, pk: str) -> Iterator[tuple[Version, dict[int, Version]]]:
        """Each version that is a finished turn, and those that stood in the session's slots just before it."""
        slots: dict[int, Version] = {}
        for version in self.versions(pk):
            if version.state == "done":
                yield version, dict(slots)
                slots[version.number] = version
            else:
                slots.pop(version.number, None)

    def last_stored(self, pk: str) -> dict[int, Turn]:
        """The turn that each slot held last, also when it holds none any more."""
        return {version.number: version.turn for version in self.versions(pk) if version.state == "done"}

    def commits(self, pk: str) -> list[Version]:
        """Those that are finished turns and were not copied: their slot held a claim before."""
        before: dict[int, Version] = {}
        found = []
        for version in self.versions(pk):
            if version.state == "done" and version.number in before and before[version.number].state == "running":
                found.append(version)
            before[version.number] = version
        return found

    def ends_ms(self, pk: str, from_ms: int, to_ms: int) -> list[int]:
        """When the session ends unless it is used, as it stood at each moment between these two; none without a header.

        That is by the clocks of those who used it.
        """
        header = self.headers.get(pk)
        if header is None:
            return []
        created, dies, idle = (int(header[name]["N"]) for name in ("created", "dies", "idle"))
        slots: dict[int, int] = {}
        active_ms, found = created, []
        for version in self.versions(pk):
            if version.at_ms > to_ms:
                break
            if version.at_ms > from_ms:
                found.append(active_ms)
            if version.item and "ts" in version.item:
                slots[version.number] = int(version.item["ts"]["N"])
            else:
                slots.pop(version.number, None)
            active_ms = max(slots[max(slots)], created) if slots else created
        return [min(active_ms + idle, dies) for active_ms in [*found, active_ms]]

    def _note(self, table: str, key: Key, old: Item | None, new: Item | None) -> None:
        if table == self.usage_table:
            self._note_counter(key, new)
        elif key[1] == HEADER and new:
            self.headers[key[0]] = new
            self.made_ms.setdefault(key[0], self.tables.now_ms())
        elif key[1].isdigit():
            self._versions[key[0]].append(Version(self.tables.now_ms(), int(key[1]), new))
        elif key[1][:1].isdigit() and new:
            number = int(key[1].partition(".")[0])
            owner = next((each for each in reversed(self._versions[key[0]]) if each.number == number), None)
            if owner:
                owner.parts.append(new)

    def _note_counter(self, key: Key, item: Item | None) -> None:
        if item is None:
            return  # its time is over, and TTL took it
        self.charged[key] = Decimal(item["n"]["N"])
        limit = self.limits.get(key[1].partition("#")[0])
        if limit is not None and not 0 <= self.charged[key] <= limit:
            self.overdrawn.append(f"{key[1]} went to {self.charged[key]} under a limit of {limit}")

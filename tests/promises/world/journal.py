"""The journal of all writes to the tables: the slots and headers of every session, the quota counters and the keys."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property

from tests.promises.simulator.attribute_values import Item
from tests.promises.simulator.tables import Key, Tables
from tests.wrapping import LocalWrapper
from turnlog.adapters.dynamodb.decode import Pieces, slots_of, steps_of
from turnlog.adapters.dynamodb.items import HEADER
from turnlog.domain.content_encryption import PLAIN, ContentCipher, DataKey
from turnlog.domain.turns import Lease, ModelCall, Slot, Step, Turn
from turnlog.errors import ItemUnreadable

LATER: Item = {"v": {"N": "4"}, "seq": {"N": "1"}}
"""The attributes that make an item one of a later version."""


def is_later(item: Item | None) -> bool:
    return item is not None and item.get("v") == LATER["v"]


class DamagedItem(Exception):
    """A slot was stored in a form that nobody can read, or under no key that there ever was."""

    def __init__(self, number: int, at_ms: int) -> None:
        super().__init__(f"P1 slot {number} cannot be read as it was stored at {at_ms}")


@dataclass
class Version:
    """The content of a slot from that time on; `state` is empty for an empty slot. `pieces` lie below it."""

    at_ms: int
    number: int
    item: Item | None
    ciphers_of: Callable[[Item], list[ContentCipher]]
    pieces: dict[str, Item] = field(default_factory=dict)

    @property
    def state(self) -> str:
        return str(self.item["st"]["S"]) if self.item else ""

    @cached_property
    def slot(self) -> Slot | None:
        """Returns the decoded slot; None when it is empty, or of a later version."""
        if self.item is None or is_later(self.item):
            return None
        for cipher in self.ciphers_of(self.item):
            with suppress(ItemUnreadable):
                return slots_of([self.item], cipher, Pieces(self.number, self.number, self.pieces))[0]
        raise DamagedItem(self.number, self.at_ms)

    @cached_property
    def steps(self) -> Sequence[Step]:
        """Returns the steps of a lease."""
        if not isinstance(self.slot, Lease) or not self.slot.steps:
            return ()
        for cipher in self.ciphers_of(next(iter(self.pieces.values()))):
            with suppress(ItemUnreadable):
                return steps_of(self.pieces, self.number, self.slot.steps, cipher)[1]
        raise DamagedItem(self.number, self.at_ms)

    @property
    def turn(self) -> Turn:
        """Returns the turn of a version that is done."""
        assert isinstance(self.slot, Turn)
        return self.slot


@dataclass
class Journal:
    """Notes each write of one run.

    `limits` are those of the quotas, by their kind; `charged` is the total of each counter, also after it was removed.
    `wrapped` are all data keys that there ever were. `encryption_faults` says what went wrong with the keys or the
    content when content is to be `encrypted`. `later` has each item of a later version that was overwritten or removed
    before that version returned: the time, the key, the item and what took its place.
    """

    tables: Tables
    sessions_table: str
    usage_table: str
    keys_table: str
    encrypted: bool = False
    limits: dict[str, Decimal] = field(default_factory=dict)
    charged: dict[Key, Decimal] = field(default_factory=dict)
    overdrawn: list[str] = field(default_factory=list)
    wrapped: dict[Key, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    encryption_faults: list[str] = field(default_factory=list)
    later: list[tuple[int, Key, Item, Item | None]] = field(default_factory=list)
    later_has_come: bool = False
    later_has_returned: bool = False
    headers: dict[str, Item] = field(default_factory=dict)
    made_ms: dict[str, int] = field(default_factory=dict)
    _erased: dict[Key, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    _owners: dict[str, str] = field(default_factory=dict)
    _versions: dict[str, list[Version]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.tables.watches.append(self._note)

    def versions(self, pk: str) -> list[Version]:
        """Returns those of all slots of a session, in the order in which they were written."""
        return self._versions.get(pk, [])

    def stored(self, pk: str) -> Iterator[tuple[Version, dict[int, Version]]]:
        """Yields each version that is a finished turn, and the contents of the session's slots just before it."""
        slots: dict[int, Version] = {}
        for version in self.versions(pk):
            if version.state == "done":
                yield version, dict(slots)
                slots[version.number] = version
            else:
                slots.pop(version.number, None)

    def last_stored(self, pk: str) -> dict[int, Turn]:
        """Returns the turn that each slot held last, also when it holds none any more."""
        return {version.number: version.turn for version in self.versions(pk) if version.state == "done"}

    def calls_of_unfinished(self, pk: str) -> list[ModelCall]:
        """Returns the calls of the model that are stored as steps of a turn that is not finished."""
        newest = {version.number: version for version in self.versions(pk)}
        return [step.call for version in newest.values() if version.state == "running" for step in version.steps]

    def commits(self, pk: str) -> list[Version]:
        """Returns the finished turns that were not copied: their slot held a lease before."""
        before: dict[int, Version] = {}
        found = []
        for version in self.versions(pk):
            if version.state == "done" and version.number in before and before[version.number].state == "running":
                found.append(version)
            before[version.number] = version
        return found

    def ends_ms(self, pk: str, from_ms: int, to_ms: int) -> list[int]:
        """Returns the end of the session unless it is used, as it stood at each moment between these two; none without
        a header.

        The times are by the clocks of those who used it.
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

    def require_nothing_under(self, erased: Collection[Key]) -> None:
        """P7: notes a fault for each item whose content is encrypted under one of the erased keys."""
        for item in self.tables.items(self.sessions_table):
            pk = item["pk"]["S"]
            owner = pk if pk.startswith("U#") else self._owners.get(pk, "")
            if _CONTENT & item.keys() and (owner, item.get("kid", {}).get("S", "")) in erased:
                self.encryption_faults.append(f"P7 {pk} {item['sk']['S']} is left under a key that was erased")

    def _note(self, table: str, key: Key, old: Item | None, new: Item | None) -> None:
        self.later_has_come |= is_later(new)
        if old and is_later(old) and not self.later_has_returned:
            self.later.append((self.tables.now_ms(), key, old, new))
        if table == self.sessions_table and self.encrypted and new:
            self._note_content(key, new)
        if table == self.usage_table:
            self._note_counter(key, new)
        elif table == self.keys_table:
            self._note_key(key, new or {})
        elif key[1] == HEADER and new:
            self.headers[key[0]] = new
            self.made_ms.setdefault(key[0], self.tables.now_ms())
        elif key[1].isdigit():
            version = Version(self.tables.now_ms(), int(key[1]), new, self._ciphers_of)
            before = self._newest_version(key[0], version.number)
            if before and before.state == "running":  # its steps become those of its turn
                version.pieces |= before.pieces
            self._versions[key[0]].append(version)
        elif (
            key[1].startswith("!")
            and new
            and (owner := self._newest_version(key[0], int(key[1][1:].partition(".")[0])))
        ):
            owner.pieces[key[1]] = new

    def _newest_version(self, pk: str, number: int) -> Version | None:
        return next((each for each in reversed(self._versions[pk]) if each.number == number), None)

    def _note_counter(self, key: Key, item: Item | None) -> None:
        if item is None:
            self._erased[key] = self.charged.get(key, Decimal(0))  # or its time is over, and TTL took it
            return
        charged = Decimal(item["n"]["N"])
        self.charged[key] = self._erased[key] + charged
        limit = self.limits.get(key[1].partition("#")[0])
        if limit is not None and not 0 <= charged <= limit:
            self.overdrawn.append(f"{key[1]} went to {charged} under a limit of {limit}")

    def _note_content(self, key: Key, item: Item) -> None:
        """P6 and P7: notes content in the clear, and a session that begins under an erased key."""
        if key[0].startswith("U#"):
            self._owners[key[1]] = key[0]
        holds_content = _CONTENT & item.keys()
        if holds_content and ("kid" not in item or any(_is_clear(item[name]) for name in holds_content)):
            self.encryption_faults.append(f"P6 {key} has {holds_content} in the clear")
        if key[1] == HEADER:
            owner = self._owners[key[0]]
            used = self.tables.now(self.keys_table, (owner, item["kid"]["S"]))
            if used is None or used["st"] != {"S": "active"}:
                self.encryption_faults.append(f"P7 {key} began under a key that was erased")

    def _note_key(self, key: Key, item: Item) -> None:
        if "key" in item:
            if self.wrapped[key]:
                self.encryption_faults.append(f"P1 the key {key} was replaced by another one")
            self.wrapped[key].append(item["key"]["B"])

    def _ciphers_of(self, item: Item) -> list[ContentCipher]:
        """Returns the ciphers that may decrypt the item: one, if all is well."""
        if "kid" not in item:
            return [PLAIN]
        owner, kid = self._owners[item["pk"]["S"]], item["kid"]["S"]
        secrets = [LocalWrapper().unwrap(owner.removeprefix("U#"), wrapped) for wrapped in self.wrapped[owner, kid]]
        return [DataKey(kid, secret) for secret in secrets]


_CONTENT = {"body", "part", "cfg", "title", "sid"}
_SAID = (
    b"toolu_",
    b"look_up",
    b"speaks",
    b"writer",
    b"before",
    b"after",
    b"what two want",
    b"title of",
    b"Be brief",
    b"ses_",
    b"text",
)


def _is_clear(value: Item) -> bool:
    """True when anybody could read it, deflated or not."""
    content = value.get("B")
    if not isinstance(content, bytes) or any(said in content for said in _SAID):
        return True
    try:
        plain = zlib.decompressobj().decompress(content[1:])
    except zlib.error:
        return False
    return plain[:1] in (b"{", b"[")  # a few random bytes may well be the beginning of something deflated

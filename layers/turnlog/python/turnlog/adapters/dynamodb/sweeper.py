"""The sweeper's list of sessions to check, so that no content outlives its session by an hour.

TTL removes what is left of a session days after it went idle, and never what was half made. So each session, and each
partition to which one is being copied, is on a list from before its first item. The list has a partition for each
quarter of an hour, and a session is in that of the time at which it would expire. The sweeper reads the partitions that
are due, deletes what has expired, and puts what is alive back onto the list. What a later version has stored goes back,
too, expired or not: only that version can say when it ends. After a rollback TTL takes it, at the session's absolute
end, if that version does not return.

Cost: 1 write unit for each new session. 2 write units and a read of the session each time that it is due and alive,
which is once in its idle time; for an expired one as many write units as it has items. A run reads 4 partitions for
each quarter of an hour since the last one: half a read unit each while they are empty. It never scans.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress

from turnlog.adapters.dynamodb.deletion import delete_session, outline
from turnlog.adapters.dynamodb.encode import last_written, lease_values
from turnlog.adapters.dynamodb.items import (
    EXTENDED_VERSION,
    HEADER,
    META,
    VERSION,
    is_of_later_version,
    is_slot,
    owner_partition,
    partition,
    state_of,
)
from turnlog.adapters.dynamodb.table import KNOWN, LAPSED, Item, Table, key, n, readable, s
from turnlog.domain.conditions import is_due
from turnlog.domain.margins import GRACE, SWEEP_MARGIN
from turnlog.domain.sessions import Session
from turnlog.errors import ItemUnreadable

MOST_SWEPT = 1_000
"""The most sessions that one run checks; the next run goes on."""

_SPAN_MS = 15 * 60 * 1000  # of one partition of the list
_MARGIN_MS = int(SWEEP_MARGIN.total_seconds() * 1000)
_GRACE_MS = int(GRACE.total_seconds() * 1000)
_SHARDS = 4  # of a partition, since one takes 1,000 writes a second
_LATE = 4  # spans that are read again: an entry may be late by a clock that was behind
_MARK = key("D#", "swept")  # holds the first span that is not swept to its end, in every version
_FIRST_RUN = 104  # spans, 26 hours: as far as the first run looks back


def add_to_sweep_list(table: Table, session: Session, now_ms: int, source: str = "") -> None:
    """Stores `sweep_entry`."""
    table.put(sweep_entry(session, now_ms, source))


def sweep_entry(session: Session, now_ms: int, source: str = "") -> Item:
    """The list's entry for a session or, with `source`, for the partition to which that one is being copied."""
    due_ms = now_ms + _MARGIN_MS if source else min(now_ms + session.idle_ms, session.expires_ms) + _MARGIN_MS
    entry = _entry_key(partition(session.owner, session.id), due_ms)
    entry |= {"v": n(VERSION), "own": s(owner_partition(session.owner)), "ttl": n(session.ttl_s)}
    return entry | {"src": s(source)} if source else entry


def sweep(table: Table, now_ms: int) -> int:
    """Does SessionStore.sweep."""
    removed = checked = 0
    mark, this_span = table.get(_MARK), now_ms // _SPAN_MS
    swept = int(mark["span"]["N"]) if mark else this_span - _FIRST_RUN
    for span in range(swept - _LATE if mark else swept, this_span + 1):
        for entry in _entries(table, span):
            with suppress(ItemUnreadable):  # a damaged entry must not hold up the others; TTL takes its session
                removed += _check(table, entry, now_ms)
            table.delete(key(entry["pk"]["S"], entry["sk"]["S"]))
            checked += 1
        if checked >= MOST_SWEPT:
            break
        if swept < this_span and span >= swept:  # after each, so that a run which is cut off need not begin anew
            swept = min(span + 1, this_span)
            table.put(_MARK | {"v": n(VERSION)} | (mark or {}) | {"span": n(swept)})
    return removed


def _entries(table: Table, span: int) -> Iterator[Item]:
    for shard in range(_SHARDS):
        yield from table.query(_list_partition(span, shard))


def _list_partition(span: int, shard: int) -> str:
    return f"D#{span:09d}#{shard}"


def _entry_key(pk: str, due_ms: int) -> Item:
    shard = hashlib.sha256(pk.encode()).digest()[0] % _SHARDS
    return key(_list_partition(-(-due_ms // _SPAN_MS), shard), pk)


def _check(table: Table, entry: Item, now_ms: int) -> bool:
    """Deletes the entry's session if it has expired, and returns True then.

    An entry that is alive, or cannot be decided yet, is put onto the list again, at a later place. Raises
    ItemUnreadable for an entry that is damaged.
    """
    pk = entry["sk"]["S"]
    with readable():
        _index_key(entry), int(entry["ttl"]["N"])
    items = outline(table, pk)
    if any(map(is_of_later_version, [entry, *items])):
        _reschedule(table, entry, now_ms + _MARGIN_MS)
        return False
    alive_until_ms = _alive_until_ms(items, entry)
    removed = False
    if not is_due(alive_until_ms, now_ms):
        _reschedule(table, {name: each for name, each in entry.items() if name != "src"}, alive_until_ms + _MARGIN_MS)
    elif not _is_abandoned(table, entry, items, now_ms):
        _reschedule(table, entry, now_ms + _MARGIN_MS)
    elif _has_header(items) or any(item["sk"]["S"] != META and state_of(item) != "ended" for item in items):
        top = delete_session(table, pk, _index_key(entry), only_if=lambda found: _may_be_swept(found, entry, now_ms))
        removed = top is not None
        if not removed:  # a turn was taken that had begun before the session expired, or a later version came back
            _reschedule(table, entry, now_ms + _MARGIN_MS)
    else:
        # The name of a session that was never made, or whose deletion stopped before this.
        table.delete(_index_key(entry), KNOWN, {":newest": n(EXTENDED_VERSION)})
    return removed


def _may_be_swept(items: Sequence[Item], entry: Item, now_ms: int) -> bool:
    return not any(map(is_of_later_version, items)) and is_due(_alive_until_ms(items, entry), now_ms)


def _reschedule(table: Table, entry: Item, due_ms: int) -> None:
    table.put(entry | _entry_key(entry["sk"]["S"], due_ms))


def _index_key(entry: Item) -> Item:
    return key(entry["own"]["S"], entry["sk"]["S"])


def _has_header(items: Sequence[Item]) -> bool:
    return bool(items) and bool(items[0]["sk"]["S"] == HEADER)


def _alive_until_ms(items: Sequence[Item], entry: Item) -> int:
    """The time at which the outlined session expires unless it is used; 0 when it is deleted, moved or not made.

    That of a damaged session is its absolute end, by the TTL that the list's entry has, too.
    """
    top = next((item for item in items if is_slot(item)), None)
    if not _has_header(items) or (top and state_of(top) == "ended"):
        return 0
    header, absolute_ms = items[0], int(entry["ttl"]["N"]) * 1000 - _GRACE_MS
    with suppress(ItemUnreadable), readable():
        active_ms = max(int(header["created"]["N"]), int(top["ts"]["N"]) if top else 0)
        return min(active_ms + int(header["idle"]["N"]), int(header["dies"]["N"]), absolute_ms)
    return absolute_ms


def _is_abandoned(table: Table, entry: Item, items: Sequence[Item], now_ms: int) -> bool:
    """True if no move can make a session of the entry's partition any more.

    To that end a lapsed lease of such a move is replaced by one with another token.
    """
    if "src" not in entry or _has_header(items):
        return True
    top = next((item for item in outline(table, entry["src"]["S"]) if is_slot(item)), None)
    if top and is_of_later_version(top):
        return False
    if top is None or top["st"]["S"] != "running" or top.get("dst") != entry["sk"]:
        return True
    lease = table.get(key(top["pk"]["S"], top["sk"]["S"]))
    if lease is None or is_of_later_version(lease) or lease.get("dst") != entry["sk"]:
        return False
    token = lease["tok"]["S"]
    void = {name: each for name, each in lease.items() if name != "dst"}
    void |= {"tok": s(token + "!"), "und": entry["sk"]}
    condition, given = last_written(LAPSED, int(lease.get("seq", {}).get("N", 0)), lease_values(token, now_ms))
    return table.put(void, condition, given) is None

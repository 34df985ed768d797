"""The sweeper's list: when to look at a session again, so that no content outlives its use by an hour.

TTL removes what is left of a session days after it went idle, and never what was half made. So each session, and each
place to which one is being copied, is on a list from before its first item: partitions of a quarter of an hour each,
named by when it would be dead. The sweeper reads the partitions that are due, ends what is dead, and puts what lives
back onto the list.

Cost: 1 write unit for each new session; 2 write units and the reading of the session each time that its turn on the
list comes while it lives, which is once in its idle time; for a dead one as many write units as it has items. A run
reads 4 partitions for each quarter of an hour since the last one: half a read unit each while they are empty. It never
scans.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from turnlog.adapters.dynamodb.deletion import end, outline
from turnlog.adapters.dynamodb.items import HEADER, VERSION, is_content, is_slot, owner_partition, partition, values
from turnlog.adapters.dynamodb.table import LAPSED, Item, Table, key, n, s
from turnlog.domain.expiry import SWEEP_MARGIN
from turnlog.domain.sessions import Session
from turnlog.errors import ItemVersionUnknown

MOST_SWEPT = 1_000
"""Sessions that one run looks at; the next one goes on."""

_SPAN_MS = 15 * 60 * 1000  # of one partition of the list
_MARGIN_MS = int(SWEEP_MARGIN.total_seconds() * 1000)
_SHARDS = 4  # of a partition, since one takes 1,000 writes a second
_LATE = 4  # spans that are read again: an entry may be late by a clock that was behind
_MARK = key("D#", "swept")  # how far it has come: the span that is not over
_FIRST_LOOK = 104  # spans, 26 hours: as far as the first run looks back


def remember(table: Table, session: Session, now_ms: int, source: str = "") -> None:
    """Puts the session, or the place to which `source` is being copied, onto the list."""
    table.put(entry_of(session, now_ms, source))


def entry_of(session: Session, now_ms: int, source: str = "") -> Item:
    """What stands on the list."""
    due_ms = now_ms + _MARGIN_MS if source else min(now_ms + session.idle_ms, session.expires_ms) + _MARGIN_MS
    entry = _place(partition(session.owner, session.id), due_ms)
    entry |= {"v": n(VERSION), "own": s(owner_partition(session.owner)), "ttl": n(session.ttl_s)}
    return entry | {"src": s(source)} if source else entry


def sweep(table: Table, now_ms: int) -> int:
    """Ends what is due and dead; says how many. See SessionStore."""
    ended = looked_at = 0
    mark, this_span = table.get(_MARK), now_ms // _SPAN_MS
    swept = int(mark["span"]["N"]) if mark else this_span - _FIRST_LOOK
    for span in range(swept - _LATE if mark else swept, this_span + 1):
        for entry in _entries(table, span):
            ended += _look(table, entry, now_ms)
            looked_at += 1
        if looked_at >= MOST_SWEPT:
            break
        if swept < this_span and span >= swept:  # at each, so that a run which is cut off need not begin anew
            swept = min(span + 1, this_span)
            table.put(_MARK | {"v": n(VERSION), "span": n(swept)})
    return ended


def _entries(table: Table, span: int) -> Iterator[Item]:
    """Raises ItemVersionUnknown at one of another version, before anything is done with it: the mark stays there."""
    for shard in range(_SHARDS):
        for entry in table.query(_list(span, shard)):
            if entry["v"] != n(VERSION):
                raise ItemVersionUnknown
            yield entry


def _list(span: int, shard: int) -> str:
    return f"D#{span:09d}#{shard}"


def _place(pk: str, due_ms: int) -> Item:
    shard = hashlib.sha256(pk.encode()).digest()[0] % _SHARDS
    return key(_list(-(-due_ms // _SPAN_MS), shard), pk)


def _look(table: Table, entry: Item, now_ms: int) -> bool:
    """True when the content of a session was removed. What lives, or cannot be decided yet, goes back onto the list."""
    pk = entry["sk"]["S"]
    items = outline(table, pk)
    alive_until_ms = _alive_until(items)
    removed = False
    if alive_until_ms + _MARGIN_MS > now_ms:
        _put_back(table, {name: each for name, each in entry.items() if name != "src"}, alive_until_ms + _MARGIN_MS)
    elif not _is_abandoned(table, entry, items, now_ms):
        _put_back(table, entry, now_ms + _MARGIN_MS)
    elif _has_header(items) or any(is_content(item) and item.get("st") != s("ended") for item in items):
        ended = end(table, pk, _index(entry), only_if=lambda found: _alive_until(found) + _MARGIN_MS <= now_ms)
        removed = ended is not None
        if not removed:  # a turn got in, which was accepted before the end
            _put_back(table, entry, now_ms + _MARGIN_MS)
    else:
        table.delete(_index(entry))  # of a session that was never made, or whose end did not come this far
    table.delete(key(entry["pk"]["S"], pk))
    return removed


def _put_back(table: Table, entry: Item, due_ms: int) -> None:
    table.put(entry | _place(entry["sk"]["S"], due_ms))


def _index(entry: Item) -> Item:
    return key(entry["own"]["S"], entry["sk"]["S"])


def _has_header(items: Sequence[Item]) -> bool:
    return bool(items) and bool(items[0]["sk"]["S"] == HEADER)


def _alive_until(items: Sequence[Item]) -> int:
    """When the session that these items outline ends unless it is used; 0 when it has ended or never was."""
    top = next((item for item in items if is_slot(item)), None)
    if not _has_header(items) or (top and top["st"]["S"] == "ended"):
        return 0
    header = items[0]
    active_ms = max(int(header["created"]["N"]), int(top["ts"]["N"]) if top else 0)
    return min(active_ms + int(header["idle"]["N"]), int(header["dies"]["N"]))


def _is_abandoned(table: Table, entry: Item, items: Sequence[Item], now_ms: int) -> bool:
    """Whether no move can make a session of the place any more; a lapsed claim that guards one is made void for it."""
    if "src" not in entry or _has_header(items):
        return True
    top = next((item for item in outline(table, entry["src"]["S"]) if is_slot(item)), None)
    if top is None or top["st"]["S"] != "running" or top.get("dst") != entry["sk"]:
        return True
    lease = table.get(key(top["pk"]["S"], top["sk"]["S"]))
    if lease is None or lease.get("dst") != entry["sk"]:
        return False
    token = lease["tok"]["S"]
    void = {name: each for name, each in lease.items() if name != "dst"}
    void |= {"tok": s(token + "!"), "til": n(now_ms - 1), "und": entry["sk"]}
    return table.put(void, LAPSED, values(token, now_ms)) is None

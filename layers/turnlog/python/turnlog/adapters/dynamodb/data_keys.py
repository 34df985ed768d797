"""The data keys of owners, in a table of their own: made when one is needed, cached for minutes, erased.

    pk "U#" and the owner's hash    sk "000001"..  the key's name; the newest is for new sessions

    {st: "active", key, made}       a key, wrapped; nothing ever changes it but its erasure
    {st: "erasing"} {st: "erased"}  a key that is gone for good: an item without key bytes, which stays, so that no name
                                    is used twice. While one is "erasing" no key is made.

A turn costs nothing while its key is in memory; else it costs one call and 1 read unit to get the key, and one call to
unwrap it. A new session costs 2 capacity units to check that its key is active, and a query of the owner's keys when
the newest is not in memory. The owner's first session also costs a call for a new key and 1 write unit.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from turnlog.adapters.dynamodb.items import is_of_later_version, state_of
from turnlog.adapters.dynamodb.table import ACTIVE, EMPTY, LEFT, Item, Table, key, n, readable, s
from turnlog.clock import Clock
from turnlog.domain.content_encryption import PLAIN, ContentCipher, DataKey
from turnlog.domain.owners import owner_hash
from turnlog.domain.sessions import Session
from turnlog.errors import ErasureInProgress, ItemUnreadable, ItemVersionUnknown, SessionNotFound, StoreUnavailable
from turnlog.ports.key_wrapper import KeyWrapper

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CACHED = timedelta(minutes=5)
"""Time for which an unwrapped key stays in memory, and for which one that was erased elsewhere may still decrypt."""

RENEWED_AFTER = timedelta(days=90)
"""The age from which a key is no longer used for new sessions. Sessions that began under it go on under it."""

MOST_CACHED = 1_000
"""The most unwrapped keys in memory, an owner's newest counted twice; the oldest entry makes room for a new one."""

VERSION = 1
_ROUNDS = 10
_GONE = "erasing", "erased"  # any other state, also one that only a later version knows, may have a key's bytes
_NEWEST = ""  # the name under which the cache knows an owner's newest key


class Keys(Protocol):
    """The data keys that a store encrypts its owners' content with. All methods may raise StoreUnavailable, too."""

    def current(self, owner: str) -> ContentCipher:
        """The cipher for the owner's new sessions. Raises ErasureInProgress or KeysUnavailable: then make none."""

    def named(self, owner: str, kid: str) -> ContentCipher:
        """The cipher for content that was stored under the key `kid`.

        Raises SessionNotFound when the key was erased, and all under it is gone; KeysUnavailable; ItemUnreadable when
        there never was such a key or it does not unwrap; ItemVersionUnknown when encrypted content is not read at all.
        """

    def still_active(self, session: Session) -> list[Item]:
        """The checks that the transaction which makes the session must have, as its last actions: one, or none."""

    def was_erased(self, session: Session, reasons: Sequence[Item]) -> bool:
        """True if that check failed the transaction; `current` gives another cipher then."""

    def begin_erasure(self, owner: str) -> None:
        """Destroys all keys of the owner. From its return on no session can be made. May be repeated."""

    def finish_erasure(self, owner: str) -> None:
        """Lets the owner make sessions again, under a new key."""


class NoKeys:
    """No data keys, for deployments that rely on the table's encryption: encrypted sessions are refused."""

    def current(self, owner: str) -> ContentCipher:  # noqa: ARG002
        return PLAIN

    def named(self, owner: str, kid: str) -> ContentCipher:  # noqa: ARG002
        raise ItemVersionUnknown

    def still_active(self, session: Session) -> list[Item]:  # noqa: ARG002
        return []

    def was_erased(self, session: Session, reasons: Sequence[Item]) -> bool:  # noqa: ARG002
        return False

    def begin_erasure(self, owner: str) -> None:
        pass

    def finish_erasure(self, owner: str) -> None:
        pass


class OwnerKeys:
    """Keys in the table `table`, which has pk (S), sk (S), no TTL and no point-in-time recovery: a backup of it would
    bring back what was erased.

    Needs Query, GetItem, PutItem and ConditionCheckItem. With `encrypts` off new sessions are plain, and those that
    are encrypted go on as they are.
    """

    def __init__(
        self,
        client: DynamoDBClient,
        table: str,
        wrapper: KeyWrapper,
        clock: Clock,
        *,
        encrypts: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = Table(client, table, sleep)
        self._wrapper = wrapper
        self._clock = clock
        self._encrypts = encrypts
        self._cached: OrderedDict[tuple[str, str], tuple[int, DataKey]] = OrderedDict()  # the first to be dropped first
        self._lock = threading.RLock()  # held while a key is fetched, so that many who need the same one fetch it once

    def current(self, owner: str) -> ContentCipher:
        return self._cached_key(owner_hash(owner), _NEWEST) if self._encrypts else PLAIN

    def named(self, owner: str, kid: str) -> ContentCipher:
        if kid == _NEWEST:
            raise ItemUnreadable
        return self._cached_key(owner_hash(owner), kid)

    def still_active(self, session: Session) -> list[Item]:
        if not session.cipher.kid:
            return []
        checked = _key_of(owner_hash(session.owner), session.cipher.kid)
        return [self._table.check_action(checked, ACTIVE, {":active": s("active")})]

    def was_erased(self, session: Session, reasons: Sequence[Item]) -> bool:
        if not session.cipher.kid or reasons[-1].get("Code") != "ConditionalCheckFailed":
            return False
        self._drop(owner_hash(session.owner))
        return True

    def begin_erasure(self, owner: str) -> None:
        hashed = owner_hash(owner)
        for _ in range(_ROUNDS):
            items = self._items(hashed)
            left = [item for item in items if state_of(item) not in _GONE]
            if not left and any(state_of(item) == "erasing" for item in items):
                self._drop(hashed)
                return
            gone = {f":{state}": s(state) for state in _GONE}
            for item in left:
                self._table.put(_item(hashed, item["sk"]["S"], "erasing"), LEFT, gone)
            if not left:
                self._table.put(_item(hashed, _next_kid(items), "erasing"), EMPTY)
        raise StoreUnavailable

    def finish_erasure(self, owner: str) -> None:
        hashed = owner_hash(owner)
        for item in self._items(hashed):
            if state_of(item) == "erasing":
                done = _item(hashed, item["sk"]["S"], "erased")
                self._table.put(done, "st = :erasing", {":erasing": s("erasing")})

    # --- in memory

    def _cached_key(self, hashed: str, kid: str) -> DataKey:
        with self._lock:
            self._drop_old()
            if (hashed, kid) not in self._cached:
                fetched = self._fetch_newest(hashed) if kid == _NEWEST else self._fetch(hashed, kid)
                cached_until_ms = self._clock() + round(CACHED.total_seconds() * 1000)
                for name in (kid, fetched.kid):
                    self._cached.pop((hashed, name), None)
                    self._cached[hashed, name] = cached_until_ms, fetched
                while len(self._cached) > MOST_CACHED:
                    self._cached.popitem(last=False)
            _, found = self._cached[hashed, kid]
            if (hashed, _NEWEST) in self._cached and self._cached[hashed, _NEWEST][1].kid < found.kid:
                del self._cached[hashed, _NEWEST]  # another handler has made a newer one since
            return found

    def _drop_old(self) -> None:
        now_ms = self._clock()
        while self._cached and next(iter(self._cached.values()))[0] <= now_ms:
            self._cached.popitem(last=False)

    def _drop(self, hashed: str) -> None:
        with self._lock:
            for name in [name for name in self._cached if name[0] == hashed]:
                del self._cached[name]

    # --- in the table

    def _items(self, hashed: str) -> list[Item]:
        return self._table.query(_partition(hashed))

    def _fetch_newest(self, hashed: str) -> DataKey:
        """The owner's newest key; makes one when there is none, or when it is too old for new sessions."""
        for _ in range(_ROUNDS):
            items = self._items(hashed)
            _require_known_version(items[-1:])
            with readable():
                erasing = any(_state(item) == "erasing" for item in items)
                usable = bool(items) and _state(items[-1]) == "active" and not self._is_old(items[-1])
            if erasing:
                raise ErasureInProgress
            if usable:
                return self._unwrap(hashed, items[-1])
            if made := self._make(hashed, _next_kid(items)):
                return made
        raise StoreUnavailable

    def _fetch(self, hashed: str, kid: str) -> DataKey:
        item = self._table.get(_key_of(hashed, kid))
        if item is None:
            raise ItemUnreadable
        _require_known_version([item])
        with readable():
            erased = _state(item) != "active"
        if erased:
            raise SessionNotFound
        return self._unwrap(hashed, item)

    def _is_old(self, item: Item) -> bool:
        return int(item["made"]["N"]) + RENEWED_AFTER.total_seconds() * 1000 <= self._clock()

    def _unwrap(self, hashed: str, item: Item) -> DataKey:
        with readable():
            version, wrapped = int(item["v"]["N"]), bytes(item["key"]["B"])
            if version != VERSION:
                raise ValueError("no version ever")
        return DataKey(item["sk"]["S"], self._wrapper.unwrap(hashed, wrapped))

    def _make(self, hashed: str, kid: str) -> DataKey | None:
        """Makes a new key under this name. Returns None when another handler was faster."""
        secret, wrapped = self._wrapper.new_key(hashed)
        item = _item(hashed, kid, "active") | {"key": {"B": wrapped}, "made": n(self._clock())}
        found = self._table.put(item, EMPTY)
        is_mine = found is None or found.get("key") == item["key"]  # also when only the answer to its put was lost
        return DataKey(kid, secret) if is_mine else None


def _require_known_version(items: Sequence[Item]) -> None:
    if any(is_of_later_version(item, VERSION) for item in items):
        raise ItemVersionUnknown


def _partition(hashed: str) -> str:
    return "U#" + hashed


def _key_of(hashed: str, kid: str) -> Item:
    return key(_partition(hashed), kid)


def _item(hashed: str, kid: str, state: str) -> Item:
    return _key_of(hashed, kid) | {"v": n(VERSION), "st": s(state)}


def _next_kid(items: Sequence[Item]) -> str:
    """The name after the newest one. It always has six digits, because keys are sorted as text."""
    return f"{int(items[-1]['sk']['S']) + 1 if items else 1:06d}"


def _state(item: Item) -> str:
    """The state of a key. Raises KeyError when it says none."""
    return str(item["st"]["S"])

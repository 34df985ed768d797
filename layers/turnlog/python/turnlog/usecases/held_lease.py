"""HeldLease: a lease as its handler writes it again while the turn goes on, and what ends that."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from turnlog.clock import Clock
from turnlog.domain.sessions import Session
from turnlog.domain.turns import Lease, Slot, Tombstone, Turn
from turnlog.errors import LeaseLost, SessionNotFound, StoreUnavailable, TurnlogError
from turnlog.ports.session_store import TurnStore

COMMIT_RESERVE_S = 5.0
"""Seconds kept back from the time of the model and of tools for the commit and its retries, or for the release."""

LEASE_S = 65.0
"""The longest that a lease lasts before it is written again, and so the longest that a crash holds up a session."""

MARGIN_S = 10.0
"""A lease that ends sooner is written again before anything else begins: it covers clocks and one slow write."""

_WRITES = 3  # tries of one write: earlier ones of this handler, which got no answer, may still arrive before it


class StopAsked(Exception):
    """The owner asked the turn to stop."""


class FinishedByAnother(Exception):
    """Another handler stored the turn of this key."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self.turn = turn


@dataclass
class HeldLease:
    """The `lease` of a handler, as it was last written. `remaining_s` returns the seconds that the handler has left.

    `is_lost` is true once a renewal has found that the turn cannot be stored any more.
    """

    session: Session
    lease: Lease
    _: KW_ONLY
    store: TurnStore
    clock: Clock
    remaining_s: Callable[[], float]
    is_lost: bool = False
    _tried: int = 0

    def __post_init__(self) -> None:
        """Counts on from the lease's own number."""
        self._tried = self.lease.sequence

    @property
    def is_unwanted(self) -> bool:
        """True once nobody wants the rest of a reply: the owner has asked the turn to stop, or it cannot be stored."""
        return self.is_lost or self.lease.stop_asked

    @property
    def seconds(self) -> float:
        """The time for the model or for tools: what the handler has left, but for the commit."""
        return self.remaining_s() - COMMIT_RESERVE_S

    def renew_if_short(self) -> None:
        """Writes the lease again if it ends soon. Raises as `write`."""
        if self.lease.lease_expires_ms - self.clock() < MARGIN_S * 1000:
            self.write(self.store.renew)

    def renew(self) -> bool:
        """Writes the lease again; False when that makes no sense any more, which the next write of the turn finds."""
        try:
            self.write(self.store.renew)
        except StoreUnavailable:
            return True
        except StopAsked:
            # What runs comes to its end and is kept, as it is paid: until then nobody may take the slot.
            self.lease = replace(self.lease, stop_asked=True)
            return self.renew()
        except (SessionNotFound, LeaseLost, FinishedByAnother):
            self.is_lost = True
            return False
        except TurnlogError:
            return False
        return True

    def write(self, put: Callable[[Session, Lease, int], Slot | None], **changes: Any) -> None:
        """Writes the lease with its new end and these `changes`, by `put`.

        Raises StopAsked, FinishedByAnother, SessionNotFound when the session has ended meanwhile, LeaseLost, or what
        `put` does.
        """
        session, seen = self.session, self.lease.sequence
        for _ in range(_WRITES):
            now = self.clock()
            if now >= session.expires_ms:
                raise SessionNotFound
            if now >= self.lease.at_ms + session.idle_ms:
                raise LeaseLost
            self._tried += 1
            until = now + lease_ms(self.remaining_s())
            lease = replace(self.lease, sequence=self._tried, at_ms=now, lease_expires_ms=until, **changes)
            found = put(session, lease, seen)
            if not (isinstance(found, Lease) and found.token == lease.token):
                raise self._lost_to(found)
            if found.sequence == lease.sequence:
                self.lease = lease
                return
            if found.stop_asked and not lease.stop_asked:
                raise StopAsked
            seen = found.sequence  # of an earlier write, whose answer this handler never got
        raise LeaseLost

    def _lost_to(self, found: Slot | None) -> Exception:
        if isinstance(found, Turn) and found.key == self.lease.key:
            return FinishedByAnother(found)
        return SessionNotFound() if isinstance(found, Tombstone) else LeaseLost()


def lease_ms(remaining_s: float) -> int:
    """The length of a lease: it outlasts its handler, or it is written again before it ends."""
    return math.ceil(min(remaining_s + COMMIT_RESERVE_S, LEASE_S) * 1000)

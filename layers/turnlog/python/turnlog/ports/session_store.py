"""The ports to what keeps sessions and counts allowances: what a turn needs of it, and the rest."""

from __future__ import annotations

from typing import Protocol

from turnlog.domain.quotas import QuotaCharge, QuotaCharges
from turnlog.domain.sessions import Move, Session, SessionView
from turnlog.domain.turns import Lease, Slot, Turn


class TurnStore(Protocol):
    """What a turn needs of a store: a view of its session, and its slot.

    Every write may be repeated safely, since each is conditional on what was seen. All methods raise StoreUnavailable
    when the store cannot be reached or throttles, retries included.
    """

    def read(self, owner: str, session_id: str, now_ms: int, newest: int, *, consistent: bool = True) -> SessionView:
        """The session with its `newest` last turns (at least 1; fewer when it has fewer).

        Strongly consistent when `fresh`. Otherwise it may be what the session was a moment ago, whole and without a
        gap, for a reader who proves it by a claim and asks afresh before saying no; SessionNotFound may be wrong then.

        Raises SessionNotFound when there is none for this owner, or it was deleted, or it has expired at `now_ms`,
        whether or not anything was swept; a kind of SessionCorrupt when turns are missing or cannot be read;
        ClockBehind when `now_ms` lies far before what the session has seen.
        """

    def turns(self, session: Session, first: int, last: int) -> list[Turn]:
        """The turns `first`..`last`, both included, oldest first; those that are not finished are left out.

        Also of a session that has ended since it was read, as far as they are still there.
        """

    def acquire(self, session: Session, lease: Lease, over: Lease | None) -> Slot | None:
        """Takes the slot if it is empty, or still holds the claim `over` whose lease has run out at `claim.at_ms`.

        Returns what the slot holds afterwards: the claim itself on success, also when only the answer of an earlier try
        was lost; else what another one put there; None when the slot is empty, because `over` was released. Raises
        AllowanceUsedUp when a charge does not fit; then nothing was taken.
        """

    def release(self, session: Session, lease: Lease, billed: bool, now_ms: int) -> None:
        """Gives the slot back and what was charged for it, if it still holds this claim; does nothing otherwise.

        What Claim.after_release says stays, so that attempts that may have been billed stay counted; when this one may,
        its charges stay too.
        """

    def commit(self, session: Session, turn: Turn, settlement: tuple[QuotaCharge, ...] = ()) -> Slot | None:
        """Stores the turn if its slot still holds the claim with the turn's token, and settles its charges with it.

        Returns what the slot holds afterwards: the turn itself, what another one put there, or None when it is empty.
        Raises TurnTooLarge when it packs to more than MAX_TURN_BYTES.
        """


class SessionStore(TurnStore, Protocol):
    """Where sessions are kept. Every implementation passes the same contract suite."""

    def create(
        self, session: Session, title: str, *, quota: QuotaCharges | None = None, first: Turn | None = None
    ) -> Session:
        """Stores a new session, and returns it; or the one that is there already under this id, for the same owner.

        A `first` turn is stored and the bill charged together with a session that is new, all or nothing, and neither
        when one was there. Raises SessionNotFound when one was there and has ended: an id is never used twice;
        AllowanceUsedUp or TurnTooLarge, and then nothing was stored.
        """

    def fork(
        self, parent: Session, number: int, child: Session, title: str, *, quota: QuotaCharges | None = None
    ) -> None:
        """Stores `child` with the parent's turns 1..`number`, without their keys; charges as `create` does.

        Read it to go on with it. Raises AllowanceUsedUp, and SessionNotFound when the parent ended meanwhile or has
        fewer turns.
        """

    def rename(self, owner: str, session_id: str, title: str, now_ms: int) -> None:
        """Gives the session another title; that is no use of it, so it lives no longer. Raises SessionNotFound."""

    def move(self, move: Move) -> Session:
        """Gives the session its new owner and id, its times kept; the old ones are dead in the same instant.

        A repeat under the same key returns the session again, and is not charged. Raises SessionNotFound,
        TurnInProgress, ClaimLost when another one took the slot, or AllowanceUsedUp; then the session is where it was,
        and after the last two a next try may need another key.
        """

    def delete(self, owner: str, session_id: str, now_ms: int) -> bool:
        """Removes all content, and returns only when it is gone and a running turn cannot bring it back.

        Works on whatever exists, so it may be repeated after a crash. False when there was nothing alive to delete.
        """

    def session_ids(self, owner: str) -> list[str]:
        """The ids of the owner's sessions in no order; some may have ended.

        One whose very id cannot be read may stand there by another name, which is no id: `read` raises a kind of
        SessionCorrupt for it, and `delete` takes it.
        """

    def erase(self, owner: str, now_ms: int) -> int:
        """Removes all that there is of the owner: its sessions, their listing, what it used of allowances, its keys.

        What counts against an allowance whose window of time is not over stays until it is, so that who begins anew has
        no more than others.

        Says how many sessions those were, ended ones that were not yet swept included. May be repeated after a crash,
        and is done only when it returned; the owner may begin anew then. A session that is created meanwhile is refused
        with ErasureInProgress, or is one that was created after.
        """

    def sweep(self, now_ms: int) -> int:
        """Removes the content of sessions that ended at least SWEEP_MARGIN ago and of half-made ones; says of how many.

        May run at any time and beside itself: it never touches a session that is alive.
        """

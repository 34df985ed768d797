"""The ports to the store of sessions and their quotas: TurnStore is what a turn needs, SessionStore is all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from turnlog.domain.messages import Message
from turnlog.domain.quotas import QuotaCharge, QuotaCharges
from turnlog.domain.sessions import ListedSession, Metadata, Move, Session, SessionChanges, SessionView
from turnlog.domain.turns import Lease, Slot, Step, Turn


class TurnStore(Protocol):
    """The part of a store that a turn needs: a view of its session, and its slot.

    Every write may be repeated safely, since each is conditional on what was seen. All methods raise StoreUnavailable
    when the store cannot be reached or throttles, after the store's own retries.

    The lease of a turn of several calls goes on, and its finished steps are kept. A step is stored in two writes: with
    the model's reply, before its tools run, and with their results. Both write the lease, too, all or nothing. `seen`
    is the sequence number under which this handler last wrote the lease, 0 if it never did since it took the slot.
    These methods return the slot as it is afterwards: `lease` itself on success, also when only the answer of an
    earlier try was lost; else what is there, nothing of the call having been stored. They raise ItemVersionUnknown when
    a later version has stored a turn there.
    """

    def read(
        self,
        owner: str,
        session_id: str,
        now_ms: int,
        newest: int,
        *,
        consistent: bool = True,
        with_content: bool = True,
    ) -> SessionView:
        """The session with its `newest` last turns (at least 1; fewer when it has fewer).

        The content of turns before the newest one's `window_from` may be left out, since the model is not shown it;
        without `with_content` that of any turn.

        With `consistent` it sees every write that has returned. Otherwise it may be the session as it was a moment ago,
        whole and without a gap, and SessionNotFound may be wrong: for callers who then take a lease, which proves the
        view, and read consistently before they refuse anything.

        Raises SessionNotFound when there is none for this owner, or it was deleted, or it has expired at `now_ms`,
        whether or not anything was swept; a kind of SessionCorrupt when turns are missing or cannot be read;
        ItemVersionUnknown when a later version stored any of it but the lease of the next slot;
        ClockBehind when `now_ms` lies far before what the session has seen; KeysUnavailable when its content cannot be
        decrypted now.
        """

    def turns(self, session: Session, first: int, last: int) -> list[Turn]:
        """The finished turns among `first`..`last`, both included, oldest first.

        If the session was deleted, moved or swept since it was read, only those that are still there.
        """

    def acquire(self, session: Session, lease: Lease, over: Lease | None) -> Slot | None:
        """Takes the slot if it is empty, or still holds the lease `over`, which has run out at `lease.at_ms`.

        Returns the slot as it is afterwards: `lease` itself on success, also when only the answer of an earlier try was
        lost; else what another request stored there; None when the slot is empty, because `over` was released. Raises
        QuotaExceeded when a charge does not fit, and ItemVersionUnknown when a later version has stored a turn there;
        then nothing was taken.
        """

    def release(self, session: Session, lease: Lease, billed: bool, now_ms: int) -> None:
        """Gives the slot and its charges back if it still holds this lease; does nothing otherwise.

        The slot then holds Lease.after_release, so that attempts that may have been billed stay counted. With `billed`
        the charges stay, too.
        """

    def commit(self, session: Session, turn: Turn, settlement: tuple[QuotaCharge, ...] = ()) -> Slot | None:
        """Stores the turn if its slot still holds the lease with the turn's token, and settles its charges with it.

        Returns the slot as it is afterwards: the turn itself, what another request stored there, or None when it is
        empty. Raises ItemVersionUnknown when a later version has stored a turn there, and TurnTooLarge when what is not
        yet stored of the turn packs to more than MAX_TURN_BYTES.
        """

    # --- a turn of several calls

    def renew(self, session: Session, lease: Lease, seen: int) -> Slot | None:
        """Stores the lease with its new end and number.

        Does so if the slot holds a lease with its token and the number `seen`, and nobody asked the turn to stop,
        unless `lease` says so, too.
        """

    def checkpoint(
        self,
        session: Session,
        lease: Lease,
        seen: int,
        step: Step,
        *,
        message: Sequence[Message] = (),
        settlement: tuple[QuotaCharge, ...] = (),
        charges: tuple[QuotaCharge, ...] = (),
    ) -> Slot | None:
        """Does `renew`, and stores with it the step's reply or, if the step has them, only its results.

        `lease.steps` is the step's number. `message` are the caller's messages, given with the first step's reply.
        `settlement` is added to its counters, and `charges` if they fit. Raises QuotaExceeded when they do not, and
        TurnTooLarge when it packs to more than MAX_TURN_BYTES; then nothing was stored.
        """

    def steps(self, session: Session, lease: Lease) -> tuple[tuple[Message, ...], tuple[Step, ...]]:
        """The caller's messages and the finished steps of a lease that has steps, the last one maybe without results.

        Raises a kind of SessionCorrupt when the slot goes on holding that lease and they cannot be read; when it no
        longer does, it may raise SessionNotFound or LeaseLost instead.
        """

    def interrupt(self, session: Session, turn: Turn, over: Lease) -> Slot | None:
        """Stores the turn, all of whose calls are steps, in the place of the lease `over`, which has lapsed.

        `turn.at_ms` is the time at which it must have lapsed. Returns as `commit`.
        """

    def ask_to_stop(self, session: Session, lease: Lease) -> bool:
        """Asks the turn that runs under this lease to stop at its next write. False if it no longer runs."""


class SessionStore(TurnStore, Protocol):
    """A store of sessions. Every implementation passes the same contract suite."""

    def create(
        self,
        session: Session,
        title: str,
        *,
        metadata: Metadata = (),
        quota: QuotaCharges | None = None,
        first: Turn | None = None,
    ) -> Session:
        """Stores a new session and returns it; or returns the owner's session that has this id already.

        With a new session the `first` turn is stored and `quota` is charged, all or nothing; with an existing one
        neither. Raises SessionNotFound when the id's session was deleted, moved or swept, since an id is never used
        twice; QuotaExceeded or TurnTooLarge, and then nothing was stored.
        """

    def fork(
        self,
        parent: Session,
        number: int,
        child: Session,
        title: str,
        *,
        metadata: Metadata = (),
        quota: QuotaCharges | None = None,
    ) -> None:
        """Stores `child` with the parent's turns 1..`number`, without their keys; charges as `create` does.

        Read it to go on with it. Raises QuotaExceeded; SessionNotFound when the parent is gone or has fewer turns;
        LeaseLost (or SessionNotFound) when the child's id belonged to a session that is gone; KeyReused when a fork of
        another request has begun under this id; ErasureInProgress.
        """

    def change(self, owner: str, session_id: str, changes: SessionChanges, now_ms: int) -> None:
        """Gives the session another title, other metadata or both at once, which does not prolong its life.

        Raises SessionNotFound.
        """

    def move(self, move: Move) -> Session:
        """Gives the session its new owner and id and keeps its times; under the old ones it is gone in that instant.

        A repeat under the same key returns the session again, and is not charged. Raises SessionNotFound,
        TurnInProgress, also for a lapsed lease with steps, which must become a turn first (see TurnStore.interrupt),
        LeaseLost when another request took the slot, or QuotaExceeded. Then the session is where it was, and after the
        last two a next try may need another key.
        """

    def delete(self, owner: str, session_id: str, now_ms: int) -> bool:
        """Removes all content, and returns only when it is gone and a running turn cannot bring it back.

        Works on whatever exists, also of a later version, so it may be repeated after a crash. Returns False when no
        session was alive.
        """

    def session_ids(self, owner: str) -> list[str]:
        """The ids of the owner's `listed` sessions."""

    def listed(self, owner: str) -> list[ListedSession]:
        """The owner's sessions in no order; some may have expired.

        A session whose id cannot be read may be listed under another name, which is no id: `read` raises a kind of
        SessionUnreadable for it, and `delete` takes it.
        """

    def erase(self, owner: str, now_ms: int, *, has_time: Callable[[], bool] = lambda: True) -> int:
        """Removes the owner's sessions, their listing, the counters of quotas and the data keys.

        A counter whose period is not over stays until it is, so that an owner who begins anew has no more than others.

        Returns the number of sessions, expired ones that were not yet swept included. May be repeated after a crash,
        and is done only when it returned; then the owner may begin anew. Meanwhile `create` raises ErasureInProgress,
        or makes a session that counts as made after the erasure.

        Raises ErasureUnfinished once `has_time` is false, which is asked before each session: the data keys are gone
        then, and a repeat goes on.
        """

    def sweep(self, now_ms: int) -> int:
        """Removes sessions that expired at least SWEEP_MARGIN ago and half-made ones; returns their number.

        May run at any time, also several at once: it never touches a session that is alive, or that a later version
        stored.
        """

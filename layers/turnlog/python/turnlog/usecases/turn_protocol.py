"""run_turn(): one turn, from the look for an earlier reply to the commit, so that no reply is lost or paid twice."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal

from turnlog.clock import Clock, utc_date
from turnlog.domain import older_keys
from turnlog.domain.blocks.citations import require_like_citations
from turnlog.domain.limits import charges, require_message_storable, require_room, step_charges
from turnlog.domain.messages import Message, Reply
from turnlog.domain.models import require_not_retired
from turnlog.domain.older_keys import attempts, numbers_to_check, packed_attempts
from turnlog.domain.output.replies import require_uncited
from turnlog.domain.quotas import QuotaCharge
from turnlog.domain.sessions import SessionView
from turnlog.domain.tools import calls_in, require_results
from turnlog.domain.turn_stream import TurnStream
from turnlog.domain.turns import Lease, ModelCall, Slot, Step, Totals, Turn, busy, held_by_later_version, key_hash
from turnlog.domain.window import WindowPolicy, next_from
from turnlog.domain.window_start import first_sent, require_sendable
from turnlog.errors import (
    AttemptsExhausted,
    KeyReused,
    StoreUnavailable,
    TurnInProgress,
    TurnlogError,
    TurnNumberTaken,
)
from turnlog.ports.chat_model import ChatModel
from turnlog.ports.session_store import TurnStore
from turnlog.ports.tool_runner import ToolRunner
from turnlog.usecases.finished_turn import keep_interrupted
from turnlog.usecases.held_lease import LEASE_S, HeldLease, lease_ms
from turnlog.usecases.renewal import Renewing, renewing
from turnlog.usecases.running_turn import RunningTurn
from turnlog.usecases.turn_request import TurnPolicy, TurnRequest

ATTEMPTS = 3
"""The most calls of the model for one key, those of handlers that died included."""

_ROUNDS = 4
"""The most reads of a session that other requests keep changing."""


@dataclass(frozen=True, slots=True)
class TakenTurn:
    """A stored turn and its session as the turn left it; `replayed` when the turn had been stored before."""

    turn: Turn
    view: SessionView
    replayed: bool = False

    @property
    def idle_expires_ms(self) -> int:
        """The time at which the session expires unless another turn begins, as of this turn: a replay says the same."""
        session = self.view.session
        return min(self.turn.at_ms + session.idle_ms, session.expires_ms)


def run_turn(
    request: TurnRequest,
    *,
    store: TurnStore,
    model: ChatModel,
    tools: ToolRunner | None = None,
    clock: Clock,
    remaining_s: Callable[[], float],
    answer_s: Callable[[], float] | None = None,
    renewing: Renewing = renewing,
    policy: TurnPolicy,
    stream: TurnStream | None = None,
) -> TakenTurn:
    """Takes the session's next turn: takes a lease of its slot, asks the model, commits, and only then returns.

    If the model wants the service's own `tools`, they are run and the model is asked again, as often as it takes. Each
    such step is stored, and whoever comes with the same key after a crash goes on after the last one.

    A key that has a stored turn returns that turn again, and the model is not asked. `remaining_s` returns the seconds
    that the handler has left, and `answer_s` those until nobody waits for the answer any more, the same unless it is
    given: a model that refuses is given up before. `renewing` writes the lease again while something runs.

    A `stream` is opened once this turn is taken or found, and shows it as it comes; a stored one is shown at once. Its
    end is shown after the commit. When this raises, the stream has no end.

    Raises SessionNotFound, KeyReused, TurnInProgress, TurnNumberTaken, LimitReached, TurnTooLarge, AttemptsExhausted,
    LeaseLost, StreamOvertaken, SessionCorrupt, ItemVersionUnknown, ClockBehind, KeysUnavailable, SecretUnavailable,
    StoreUnavailable or a ModelError. After each of them but StoreUnavailable this handler has stored no turn; after
    that one a repeat with the same key finds out.
    """
    return _Taking(
        request, store, model, tools, clock, remaining_s, answer_s or remaining_s, renewing, policy, stream
    ).take()


def first_turn(message: Message, reply: Reply, cost_usd: Decimal | None, at_ms: int, window: WindowPolicy) -> Turn:
    """The turn 1 of a session that goes on from a question. It has no key, because the question was asked without."""
    exchange = (message, reply.message)
    ids = reply.id, reply.request_id, reply.stop_sequence, reply.stop_details
    calls = (ModelCall(reply.model, reply.usage, cost_usd, *ids),)
    return Turn(
        number=1,
        token=secrets.token_urlsafe(12),
        key=b"",
        fingerprint=b"",
        messages=exchange,
        calls=calls,
        stop_reason=reply.stop_reason,
        totals=Totals().plus(exchange, calls),
        at_ms=at_ms,
        window_from=next_from(1, reply.usage, 1, window, [exchange]),
        older_keys=b"",
    )


_Look = tuple[SessionView, Lease, tuple[Step, ...]]
"""A session, the lease to take in it, and the steps that others finished under the same key."""


@dataclass(frozen=True, slots=True)
class _Taking:
    """One handler's try to take a turn, with all that it needs."""

    request: TurnRequest
    store: TurnStore
    model: ChatModel
    tools: ToolRunner | None
    clock: Clock
    remaining_s: Callable[[], float]
    answer_s: Callable[[], float]
    renewing: Renewing
    policy: TurnPolicy
    stream: TurnStream | None = None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(12))

    def take(self) -> TakenTurn:
        """Does run_turn."""
        taken = self._take()
        self._open_stream(taken.view, taken.turn.number, replayed=taken.replayed)
        if self.stream:
            turn, own_tools = taken.turn, taken.view.session.settings.own_tools if self.tools else ()
            self.stream.finish(turn.replies, turn.stop_reason, turn.usage, own_tools)
        return taken

    def _open_stream(self, view: SessionView, number: int, *, replayed: bool) -> None:
        if self.stream:
            self.stream.open(session_id=view.session.id, turn=number, replayed=replayed)

    def _take(self) -> TakenTurn:
        for consistent in [False] * self.policy.reads_cached + [True] * _ROUNDS:
            now = self.clock()
            look = self._read_consistent(now) if consistent else self._read_cached(now)
            if isinstance(look, TakenTurn):
                return look
            if look is None:
                continue
            view, lease, steps = look
            found = self._acquire(view, lease)
            if isinstance(found, Lease) and found.token == self.token:
                self._open_stream(view, lease.number, replayed=False)
                return TakenTurn(self._running(view, lease, steps).finish(), view)
            if isinstance(found, Turn) and found.key == self.request.key:
                return self._replay(view, found)
            if isinstance(found, Lease) and found.lease_expires_ms > now:
                raise busy(found, now)
        raise TurnInProgress(1)

    def _read_consistent(self, now: int, *, consistent: bool = True) -> TakenTurn | _Look | None:
        """The turn if it is stored; else the session, and the lease to take in it; None to look again."""
        request = self.request
        newest = max(self.policy.window.turns, older_keys.KEY_STRIDE)
        view = self.store.read(request.owner, request.session_id, now, newest, consistent=consistent)
        if stored := self._find_stored(view):
            return self._replay(view, stored)
        running = view.running
        is_others = running is not None and running.key != self.request.key
        if is_others and keep_interrupted(self.store, view, now, self.policy.window):
            return None
        steps: tuple[Step, ...] = ()
        if running and running.key == self.request.key and running.steps and not view.running_at(now):
            _, steps = self.store.steps(view.session, running)
        if self.clock() - now > LEASE_S * 1000:
            return None  # this handler stood still for so long that what it has read is old
        return view, self._next_lease(view, steps, now), steps

    def _read_cached(self, now: int) -> _Look | None:
        """Like `_read_consistent`, from a possibly stale view, which may only be used to try a lease.

        Returns None when a consistent read must decide.
        """
        try:
            look = self._read_consistent(now, consistent=False)
        except StoreUnavailable:
            raise
        except TurnlogError:
            return None
        return None if isinstance(look, TakenTurn) else look

    def _find_stored(self, view: SessionView) -> Turn | None:
        """The turn under the request's key, also before those of the view. Raises TurnNumberTaken."""
        for turn in reversed(view.turns):
            if turn.key == self.request.key:
                return turn if turn.is_read else self._whole(view, turn)
        # Older keys, and the number that the caller expects, are hints; only the turn itself proves its key.
        for number in numbers_to_check(view, self.request.key, self.request.number):
            for turn in self.store.turns(view.session, number, number):
                if turn.key == self.request.key:
                    return turn
        if self.request.number not in (None, view.count + 1):
            raise TurnNumberTaken(view.count + 1)
        return None

    def _whole(self, view: SessionView, turn: Turn) -> Turn | None:
        return next(iter(self.store.turns(view.session, turn.number, turn.number)), None)

    def _replay(self, view: SessionView, turn: Turn) -> TakenTurn:
        self._require_same_body(turn)
        self.request.require(view, turn)
        return TakenTurn(turn, view, replayed=True)

    def _next_lease(self, view: SessionView, steps: tuple[Step, ...], now: int) -> Lease:
        request, counts, over = self.request, attempts(view), view.running
        if over:
            if over.key == request.key:
                self._require_same_body(over)
            if view.running_at(now):
                raise busy(over, now)
        if view.unknown_lease:
            raise held_by_later_version(view.unknown_lease, now)
        request.require(view, None)
        attempt = counts.pop(key_hash(request.key), 0) + 1
        if attempt > ATTEMPTS:
            raise AttemptsExhausted
        require_not_retired(view.session.settings.model, utc_date(now))
        require_room(view, self.policy.session, now)
        require_message_storable(request.message, view.session.settings.max_tokens)
        if view.session.settings.output_schema:
            require_uncited(request.message)
        require_results(view.turns[-1:], request.message)
        require_sendable(view.turns, [request.message])
        start = first_sent(view.turns, [request.message])
        shown = [turn for turn in view.turns if turn.number >= start and turn.stop_reason != "refusal"]
        require_like_citations((message for turn in shown for message in turn.messages), request.message)
        # By the clock of this moment: however long the read took, the lease outlasts the handler.
        until = self.clock() + lease_ms(self.remaining_s())
        return Lease(
            number=view.count + 1,
            token=self.token,
            lease_expires_ms=until,
            key=request.key,
            fingerprint=request.fingerprint,
            at_ms=now,
            attempt=attempt,
            attempt_counts=packed_attempts(counts),
            charges=self._charges(view, steps, now),
            # The number of one that was written again goes on, or its release would make the session look unused.
            sequence=over.sequence + 1 if over and over.sequence else 0,
            steps=len(steps),
        )

    def _charges(self, view: SessionView, steps: tuple[Step, ...], now: int) -> tuple[QuotaCharge, ...]:
        limits = self.policy.owner
        if not steps:
            return charges(view, self.request.message, limits, now, self.request.system)
        rates = charges(view, self.request.message, replace(limits, budget_a_day=None), now)
        last = steps[-1]
        if last.results is None and calls_in(last.reply):
            return rates  # its tools come first, and the next call is reserved with their results
        return rates + step_charges(view.session.settings, last.call, last.results, limits, now)

    def _acquire(self, view: SessionView, lease: Lease) -> Slot | None:
        try:
            return self.store.acquire(view.session, lease, over=view.running)
        except StoreUnavailable:
            # Whether it was written is unknown, so take it back if it can be done; its lease ends it otherwise.
            self.store.release(view.session, lease, billed=False, now_ms=lease.at_ms)
            raise

    def _running(self, view: SessionView, lease: Lease, steps: tuple[Step, ...]) -> RunningTurn:
        """The turn that this handler has taken, with the steps that others finished under its key."""
        return RunningTurn(
            self.request,
            view,
            HeldLease(view.session, lease, store=self.store, clock=self.clock, remaining_s=self.remaining_s),
            steps,
            store=self.store,
            model=self.model,
            tools=self.tools,
            clock=self.clock,
            answer_s=self.answer_s,
            renewing=self.renewing,
            policy=self.policy,
            stream=self.stream,
        )

    def _require_same_body(self, held: Lease | Turn) -> None:
        if held.fingerprint != self.request.fingerprint:
            raise KeyReused

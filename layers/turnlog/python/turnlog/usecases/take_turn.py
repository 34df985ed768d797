"""take_turn(): the next turn of a session, for a caller, waiting for a busy session if the caller wants that."""

from __future__ import annotations

from collections.abc import Callable

from turnlog.clock import Clock
from turnlog.domain.limits import wait_charges
from turnlog.domain.messages import Message, to_json
from turnlog.domain.server_key import ServerKey
from turnlog.domain.tools import results_in
from turnlog.domain.turn_stream import TurnStream
from turnlog.errors import QuotaUnavailable, StoreUnavailable, TurnInProgress
from turnlog.ports.chat_model import ChatModel
from turnlog.ports.quota_store import QuotaStore
from turnlog.ports.session_store import TurnStore
from turnlog.ports.tool_runner import ToolRunner
from turnlog.usecases.caller import Caller
from turnlog.usecases.policy import AnonymousLimits, turn_policy_of
from turnlog.usecases.turn_protocol import TakenTurn, run_turn
from turnlog.usecases.turn_request import Require, TurnPolicy, TurnRequest, require_nothing

POLL_S = 0.5
"""Seconds between two looks at a busy session; a look costs 10 read units and a few milliseconds."""

_LEFT_FOR_A_TURN_S = 9  # before nobody waits for the answer any more: so long before that a wait ends

Sleep = Callable[[float], None]


def take_turn(
    caller: Caller,
    session_id: str,
    message: Message,
    *,
    key: str,
    number: int | None = None,
    system: str = "",
    require: Require = require_nothing,
    wait_s: float = 0,
    store: TurnStore,
    model: ChatModel,
    tools: ToolRunner | None,
    quotas: QuotaStore,
    server_key: ServerKey,
    policy: TurnPolicy,
    anonymous: AnonymousLimits,
    clock: Clock,
    remaining_s: Callable[[], float],
    answer_s: Callable[[], float],
    sleep: Sleep,
    stream: TurnStream | None = None,
) -> TakenTurn:
    """Takes the session's next turn; returns the stored one if `key` was used for the same request before.

    `key` is the idempotency key. It counts together with the ids of the tool results in the message, so that one key
    serves for every message of a tool loop. `number` is the number that the caller expects the turn to get, and
    `system` are instructions from this turn on. `require` may refuse the session before a turn is begun, or a stored
    one returned. A busy session is waited for, at most `wait_s` seconds; waits are counted by themselves, under the
    same rate as turns. `remaining_s` returns the seconds that the handler has left, `answer_s` those until nobody waits
    for its answer any more. A `stream` shows the turn as it comes, as `run_turn` says.

    Raises Unauthorized, QuotaExceeded or QuotaUnavailable for a wait, and what `run_turn` raises.
    """
    owner = caller.require_verified()
    rules = turn_policy_of(caller, policy, anonymous)
    request = TurnRequest(
        owner=owner,
        session_id=session_id,
        # Without the session's id, which a move changes while a turn's key goes on to name it.
        key=server_key.keyed_hash("idempotency-key", key.encode(), *_answered(message)),
        fingerprint=server_key.keyed_hash("fingerprint", *_canonical(message, number, system)),
        message=message,
        number=number,
        system=system,
        require=require,
    )

    def charge_wait() -> None:
        now_ms = clock()
        if charges := wait_charges(owner, rules.owner, now_ms):
            try:
                quotas.charge(charges, now_ms)
            except StoreUnavailable as error:
                raise QuotaUnavailable from error  # nothing was stored, while the store's own failure leaves that open

    return retry_while_busy(
        lambda: run_turn(
            request,
            store=store,
            model=model,
            tools=tools,
            clock=clock,
            remaining_s=remaining_s,
            answer_s=answer_s,
            policy=rules,
            stream=stream,
        ),
        wait_s=wait_s,
        left_s=lambda: answer_s() - _LEFT_FOR_A_TURN_S,
        sleep=sleep,
        before_waiting=charge_wait,
    )


def retry_while_busy(
    take: Callable[[], TakenTurn],
    *,
    wait_s: float,
    left_s: Callable[[], float],
    sleep: Sleep,
    before_waiting: Callable[[], None],
) -> TakenTurn:
    """Returns what `take` returns, called again while the session is busy, for `wait_s` seconds and at most `left_s`.

    Each try looks at the session, which costs no more than that. `before_waiting` is called once, if there is a wait.
    Raises what the two raise, and TurnInProgress when the wait is over.
    """
    waited_s = 0.0
    while True:
        try:
            return take()
        except TurnInProgress:
            pause_s = min(POLL_S, wait_s - waited_s, left_s())
            if pause_s <= 0:
                raise
            if not waited_s:
                before_waiting()
        sleep(pause_s)
        waited_s += pause_s


def _answered(message: Message) -> list[bytes]:
    """The ids of the calls whose results the message brings, in one order."""
    return [each.encode() for each in sorted(results_in(message))]


def _canonical(message: Message, number: int | None, system: str) -> list[bytes]:
    """Everything that the request says, each thing in one form, without what it leaves out. It must not change."""
    said = [to_json(message.blocks).encode()] + ([b"%d" % number] if number else [])
    return said + ([b"system " + system.encode()] if system else [])

"""Limits of a session and its owner, at the border and one beyond."""

from __future__ import annotations

import base64
import random
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

import pytest

from tests.fakes import MODEL, START_MS, new_session, two_call_turn
from turnlog.domain.answers import require_answerable
from turnlog.domain.chosen_tools import WEB_USE_TOKENS, OfferedTools, resolve_tools
from turnlog.domain.limits import (
    REPLY_BYTES_PER_TOKEN,
    OwnerLimits,
    SessionLimits,
    charges,
    question_charges,
    require_message_storable,
    require_room,
    settlement,
)
from turnlog.domain.messages import Message, ModelRequest, ModelSettings, Usage, to_json
from turnlog.domain.packing import pack_turn
from turnlog.domain.prices import WEB_SEARCH_USD, cost_usd
from turnlog.domain.sessions import SessionView
from turnlog.domain.tools import ToolCall, ToolResult, message_of_results, unknown_outcomes
from turnlog.domain.turns import MAX_TURN_BYTES, ModelCall, Totals, Turn
from turnlog.errors import QuotaExceeded, SessionLimitReached, TurnTooLarge

MINUTE_MS = 60_000
MESSAGE = Message.of_text("hello")
REPLY = Message("assistant", "[]")


def turn(number: int, at_ms: int = START_MS, *, tokens: int = 100) -> Turn:
    call = ModelCall(MODEL, Usage(f'{{"input_tokens":{tokens - 10},"output_tokens":10}}'), Decimal("0.5"))
    totals = Totals(tokens * number, Decimal(number), 1000 * number)
    return Turn(number, "t", b"", b"", (MESSAGE, REPLY), (call,), "end_turn", totals, at_ms, 1, b"")


def view_of(*turns: Turn) -> SessionView:
    return SessionView(new_session(), "", len(turns), turns)


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (SessionLimits(turns=3), "session_turns"),
        (SessionLimits(tokens=300), "session_tokens"),
        (SessionLimits(content_bytes=3000), "session_bytes"),
    ],
)
def test_a_session_takes_turns_until_its_limit(limits: SessionLimits, name: str) -> None:
    require_room(view_of(turn(1), turn(2)), limits, START_MS)
    with pytest.raises(SessionLimitReached) as refused:
        require_room(view_of(turn(1), turn(2), turn(3)), limits, START_MS)
    assert (refused.value.limit, refused.value.retry_after_s) == (name, None)


def test_a_rate_says_when_the_next_turn_fits() -> None:
    limits = SessionLimits(turns_a_minute=2)
    view = view_of(turn(1, START_MS), turn(2, START_MS + 20_000), turn(3, START_MS + 30_000))
    with pytest.raises(SessionLimitReached) as refused:
        require_room(view, limits, START_MS + 40_000)
    assert (refused.value.limit, refused.value.retry_after_s) == ("session_turns_a_minute", 40)
    require_room(view, limits, START_MS + 80_000)


def test_without_limits_nothing_is_refused_or_charged() -> None:
    view = view_of(*(turn(number) for number in range(1, 30)))
    require_room(view, SessionLimits(), START_MS)
    assert charges(view, MESSAGE, OwnerLimits(), START_MS) == ()


def test_a_rate_of_the_owner_is_charged_to_its_minute() -> None:
    (charge,) = charges(view_of(), MESSAGE, OwnerLimits(turns_a_minute=7), 1_790_000_030_000)
    assert (charge.counter, charge.amount, charge.limit) == ("turns#2026-09-21T14:13", Decimal(1), Decimal(7))
    assert 0 < charge.resets_ms - 1_790_000_030_000 <= MINUTE_MS
    assert charge.resets_ms % MINUTE_MS == 0


@pytest.mark.parametrize("before", [(), (turn(1), turn(2, tokens=5000))], ids=["first turn", "third turn"])
@pytest.mark.parametrize("unit", ["tokens", "usd"])
def test_a_budget_reserves_enough_and_is_settled_exactly(before: tuple[Turn, ...], unit: str) -> None:
    view = view_of(*before)
    (charge,) = charges(view, MESSAGE, OwnerLimits(None, Decimal(10**9), unit), START_MS)  # type: ignore[arg-type]
    prompt = (before[-1].reply.usage.tokens if before else 10) + 5
    usage = Usage(f'{{"input_tokens":0,"cache_creation_input_tokens":{prompt},"output_tokens":1000}}')
    cost = cost_usd(MODEL, usage, datetime.fromtimestamp(START_MS / 1000, UTC).date())
    used = Decimal(usage.tokens) if unit == "tokens" else cost
    assert used is not None
    assert charge.amount >= used
    (settled,) = settlement((charge,), (ModelCall(MODEL, usage, cost),))
    assert charge.amount + settled.amount == used
    assert settled.counter == charge.counter


def test_a_budget_of_dollars_refuses_a_model_without_a_price() -> None:
    session = new_session()
    unknown = replace(session, settings=replace(session.settings, model="claude-unheard-of"))
    with pytest.raises(QuotaExceeded):
        charges(SessionView(unknown, "", 0, ()), MESSAGE, OwnerLimits(None, Decimal(5), "usd"), START_MS)


def test_an_unpriced_call_keeps_its_reservation() -> None:
    (charge,) = charges(view_of(), MESSAGE, OwnerLimits(None, Decimal(5), "usd"), START_MS)
    assert settlement((charge,), (replace(turn(1).calls[0], cost_usd=None),)) == ()


def test_a_message_is_limited_by_its_packed_size() -> None:
    require_message_storable(Message.of_text("a" * 5_000_000), 1000)
    noise = random.Random(1).randbytes(MAX_TURN_BYTES).hex()
    with pytest.raises(TurnTooLarge):
        require_message_storable(Message.of_text(noise), 0)
    with pytest.raises(TurnTooLarge):
        require_message_storable(MESSAGE, MAX_TURN_BYTES // REPLY_BYTES_PER_TOKEN + 1)


@pytest.mark.parametrize("max_tokens", [1, 16_000, 64_000, 128_000])
def test_the_longest_message_and_reply_can_be_stored_and_fetched(max_tokens: int) -> None:
    """Neither of them can be packed, so it is the worst that a model may write."""
    noise = random.Random(1).randbytes(MAX_TURN_BYTES)

    def said(size: int) -> Message:
        return Message.of_text(base64.b64encode(noise)[: size - 100].decode())

    longest = max_tokens * REPLY_BYTES_PER_TOKEN
    least, most = 1_000, MAX_TURN_BYTES
    while most - least > 1_000:
        size = (least + most) // 2
        try:
            require_message_storable(said(size), max_tokens)
        except TurnTooLarge:
            most = size
        else:
            least = size
    assert least > 1_500_000
    reply = Message("assistant", said(max(longest, 100)).content)
    whole = replace(turn(1), messages=(said(least), reply))
    pack_turn(whole)
    require_answerable(whole)


def test_a_reservation_counts_the_last_call_of_the_last_turn() -> None:
    limits = OwnerLimits(budget_a_day=Decimal(10**9))
    after_one_call = charges(view_of(turn(1, tokens=100)), MESSAGE, limits, START_MS)
    assert charges(view_of(two_call_turn(tokens=100)), MESSAGE, limits, START_MS) == after_one_call


def test_all_that_comes_after_the_last_reply_is_reserved() -> None:
    limits = OwnerLimits(budget_a_day=Decimal(10**9))

    def reserved(before: Turn, system: str = "") -> Decimal:
        return charges(view_of(before), MESSAGE, limits, START_MS, system)[0].amount

    plain = reserved(turn(1))
    assert reserved(turn(1), "x" * 5000) >= plain + 5000
    calls = [ToolCall("a", "clock", "{}"), ToolCall("b", "notes", "{}")]
    blocks = [{"type": "tool_use", "id": each.id, "name": each.name, "input": {}} for each in calls]
    results = message_of_results([ToolResult("a", to_json("y" * 9000))])
    said = (MESSAGE, Message("assistant", to_json(blocks)), results)
    held = reserved(replace(turn(1), messages=said, stop_reason="interrupted"))
    assert held >= plain + 9000 + len(unknown_outcomes(calls[1:]).content)


@pytest.mark.parametrize(("unit", "used"), [("tokens", Decimal(200)), ("usd", Decimal(1))])
def test_a_settlement_sums_all_calls_of_a_turn(unit: str, used: Decimal) -> None:
    (charge,) = charges(view_of(), MESSAGE, OwnerLimits(None, Decimal(10**9), unit), START_MS)  # type: ignore[arg-type]
    (settled,) = settlement((charge,), two_call_turn(tokens=100, cost_usd=Decimal("0.5")).calls)
    assert charge.amount + settled.amount == used


def test_one_unpriced_call_keeps_the_turn_s_reservation() -> None:
    (charge,) = charges(view_of(), MESSAGE, OwnerLimits(None, Decimal(5), "usd"), START_MS)
    priced, unpriced = two_call_turn().calls[0], replace(two_call_turn().calls[1], cost_usd=None)
    assert settlement((charge,), (priced, unpriced)) == ()


def test_what_web_tools_may_bring_and_cost_is_reserved() -> None:
    offered = OfferedTools(web=True)
    tools = resolve_tools([{"type": "web_search", "max_uses": 3}, {"type": "web_fetch", "max_uses": 1}], offered)

    def reserved(unit: Literal["tokens", "usd"], definitions: str) -> Decimal:
        question = ModelRequest(ModelSettings(MODEL, 100, tools=definitions), (MESSAGE,))
        limits = OwnerLimits(budget_a_day=Decimal(1_000_000), budget_unit=unit)
        taken = question_charges("owner", question, limits, START_MS)
        assert taken
        return taken.charges[0].amount

    size = len(tools.definitions)
    assert reserved("tokens", tools.definitions) == reserved("tokens", "") + size + 4 * WEB_USE_TOKENS
    least = 3 * WEB_SEARCH_USD + reserved("usd", "")
    assert reserved("usd", tools.definitions) > least

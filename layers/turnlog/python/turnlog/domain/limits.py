"""Limits of a session and its owner: pure functions from a session's view to a refusal or a charge.

A session's own limits need no write: its view has the totals, and its turns come one after the other. So the number of
turns is exact. Tokens and bytes are checked before a turn, so its reply may exceed them. The quotas that an owner's
sessions share are charged: for a turn in the transaction that takes its lease, for a question before it is asked. A
budget reserves the most that a call can use and settles it with the commit, so that no race and no retry can exceed it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from turnlog.clock import utc, utc_date
from turnlog.domain.answers import MOST_TURN_BYTES, bytes_in_answer
from turnlog.domain.blocks.tokens import tokens_of
from turnlog.domain.chosen_tools import WEB_USE_TOKENS, web_uses
from turnlog.domain.messages import Message, ModelRequest, ModelSettings
from turnlog.domain.packing import pack
from turnlog.domain.prices import most_usd
from turnlog.domain.quotas import QuotaCharge, QuotaCharges, exceeded, together
from turnlog.domain.sessions import SessionView
from turnlog.domain.tools import open_calls, unknown_outcomes
from turnlog.domain.turns import MAX_TURN_BYTES, ModelCall, Turn, total_cost, total_tokens
from turnlog.errors import QuotaExceeded, SessionLimitReached, TurnTooLarge

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
_DAY_MS = 24 * _HOUR_MS

DEFAULT_MAX_TOKENS = 4096
"""Tokens of a reply at most, where nobody asks for another number: some pages of prose."""

REPLY_BYTES_PER_TOKEN = 16
"""The most bytes that a token of a reply is taken to have as JSON, before compression; prose has about 4."""

_ALL_ANONYMOUS = "anonymous"
"""The owner of the quotas that all anonymous callers share. No real owner has this name: theirs have a bar or colon."""

_FRAME_BYTES = 20_000  # of an answer: all that a turn has beside its message and its reply

_FRAME_TOKENS = 64
"""Tokens for all that surrounds the texts of a prompt: roles, and the tags of blocks."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """The limits of one session; None is no limit. `content_bytes` is before compression."""

    turns: int | None = None
    tokens: int | None = None
    content_bytes: int | None = None
    turns_a_minute: int | None = None
    """Must not exceed the turns of the window, since the view holds no more to count."""


@dataclass(frozen=True, slots=True)
class OwnerLimits:
    """The limits of an owner, over all sessions and questions; None is no limit. Days and minutes are those of UTC."""

    turns_a_minute: int | None = None
    budget_a_day: Decimal | None = None
    budget_unit: Literal["tokens", "usd"] = "tokens"
    sessions_a_day: int | None = None
    """Sessions made, not alive: those can be counted exactly, while a session expires without anybody to count it."""
    anonymous_turns_a_minute: int | None = None
    """Turns of all anonymous callers together; only for them."""


@dataclass(frozen=True, slots=True)
class PossibleCall:
    """One call of a model at its largest: the tokens of its prompt and of its reply, and its searches of the web.

    `times` says how often it can be made.
    """

    model: str
    prompt_tokens: int
    output_tokens: int
    searches: int = 0
    times: int = 1


def require_room(view: SessionView, limits: SessionLimits, now_ms: int) -> None:
    """Raises SessionLimitReached when the session may take no further turn now."""
    totals = view.totals
    reached = (
        ("session_turns", view.count, limits.turns),
        ("session_tokens", totals.tokens, limits.tokens),
        ("session_bytes", totals.content_bytes, limits.content_bytes),
    )
    for name, used, limit in reached:
        if limit is not None and used >= limit:
            raise SessionLimitReached(name)
    recent = [turn.at_ms for turn in view.turns if turn.at_ms > now_ms - _MINUTE_MS]
    if limits.turns_a_minute is not None and len(recent) >= limits.turns_a_minute:
        oldest_that_counts = recent[-limits.turns_a_minute]
        raise SessionLimitReached("session_turns_a_minute", -(-(oldest_that_counts + _MINUTE_MS - now_ms) // 1000))


def require_message_storable(message: Message, max_tokens: int) -> None:
    """Raises TurnTooLarge when the message and the longest reply might not fit into one turn, or into an answer."""
    longest = max_tokens * REPLY_BYTES_PER_TOKEN
    left = MAX_TURN_BYTES - longest
    if len(message.content.encode()) > left and len(pack(message.content)) > left:
        raise TurnTooLarge
    if bytes_in_answer(message.content) > MOST_TURN_BYTES - _FRAME_BYTES - 2 * longest:  # a reply is there twice
        raise TurnTooLarge


def charges(
    view: SessionView, message: Message, limits: OwnerLimits, now_ms: int, system: str = ""
) -> tuple[QuotaCharge, ...]:
    """The charges for the session's next turn, to be taken together with its slot.

    The prompt is at most the tokens of the last call, which sent the window before, and those that all after its reply
    can have: results of tools, the message, and instructions that come with it. Raises QuotaTooSmall when that is more
    than a whole budget, and QuotaExceeded when a budget of dollars meets a model without a price: money fails closed.
    """
    settings = view.session.settings
    before = (
        view.turns[-1].calls[-1].usage.tokens
        if view.turns
        else len((settings.system + settings.tools + settings.output_schema).encode())
    )
    added = [*_after_reply(view.turns[-1] if view.turns else None, message), message]
    prompt = before + sum(tokens_of(each, settings.model) for each in added) + len(system.encode()) + _FRAME_TOKENS
    return _charges(settings, prompt, limits, now_ms)


def _after_reply(last: Turn | None, message: Message) -> list[Message]:
    """The messages between the last reply and the new one: results, also those that say they are lost."""
    if last is None:
        return []
    reply = max(index for index, each in enumerate(last.messages) if each.role == "assistant")
    lost = open_calls([*last.messages, message])
    return [*last.messages[reply + 1 :], *([unknown_outcomes(lost)] if lost else [])]


def step_charges(
    settings: ModelSettings, last: ModelCall, results: Message | None, limits: OwnerLimits, now_ms: int
) -> tuple[QuotaCharge, ...]:
    """The charges for a turn's next call after the call `last`: to budgets alone, since the turn is counted already.

    Raises as `charges`.
    """
    prompt = last.usage.tokens + (tokens_of(results, settings.model) if results else 0) + _FRAME_TOKENS
    budget = OwnerLimits(budget_a_day=limits.budget_a_day, budget_unit=limits.budget_unit)
    return _charges(settings, prompt, budget, now_ms)


def question_charges(owner: str, question: ModelRequest, limits: OwnerLimits, now_ms: int) -> QuotaCharges | None:
    """The charges for a question without a session, to the counters that turns are charged to. Raises as `charges`."""
    settings = question.settings
    # The definitions of tools and the schema of the reply are a part of the prompt.
    texts = settings.system, *settings.stop_sequences, settings.tools, settings.output_schema
    prompt = sum(len(text.encode()) for text in texts) + _FRAME_TOKENS
    prompt += sum(tokens_of(message, settings.model) for message in question.messages)
    taken = _charges(settings, prompt, limits, now_ms)
    return QuotaCharges(owner, taken) if taken else None


def questions_charges(
    owner: str, questions: Sequence[ModelRequest], limits: OwnerLimits, now_ms: int
) -> list[QuotaCharges]:
    """The charges for questions that are asked together, of each by itself; rates count them as one.

    Raises as `charges`, also when all together are more than a whole budget.
    """
    budget = OwnerLimits(budget_a_day=limits.budget_a_day, budget_unit=limits.budget_unit)
    taken = [
        question_charges(owner, question, budget if number else limits, now_ms) or QuotaCharges(owner, ())
        for number, question in enumerate(questions)
    ]
    for charge in together(charge for each in taken for charge in each.charges):
        if charge.amount > charge.limit:
            raise exceeded(charge, now_ms)
    return taken


def passed_charges(
    owner: str, calls: Callable[[str], Sequence[PossibleCall]], limits: OwnerLimits, now_ms: int
) -> QuotaCharges | None:
    """The charges for a request that is passed on, which counts as a turn, to the counters that turns are charged to.

    `calls` returns all calls that it can lead to, and is asked where there is a budget, for its unit. Raises as
    `charges`.
    """
    taken = _charges_for(lambda unit: _most_of(calls(unit), unit, now_ms), limits, now_ms)
    return QuotaCharges(owner, taken) if taken else None


def counting_charges(owner: str, limits: OwnerLimits, now_ms: int) -> QuotaCharges | None:
    """The charges for counting the tokens of a request, which costs nothing and has the rate limit of turns."""
    if limits.turns_a_minute is None:
        return None
    return QuotaCharges(owner, (_one_a_minute("counts", limits.turns_a_minute, now_ms),))


def _charges(settings: ModelSettings, prompt: int, limits: OwnerLimits, now_ms: int) -> tuple[QuotaCharge, ...]:
    return _charges_for(lambda unit: _most(settings, prompt, unit, now_ms), limits, now_ms)


def _charges_for(most_in: Callable[[str], Decimal], limits: OwnerLimits, now_ms: int) -> tuple[QuotaCharge, ...]:
    """The charges of one turn; `most_in` returns the most that it can use, in the budget's unit."""
    taken = []
    if limits.turns_a_minute is not None:
        taken.append(_one_a_minute("turns", limits.turns_a_minute, now_ms))
    if limits.anonymous_turns_a_minute is not None:
        taken.append(_shared_by_anonymous("anonymous_turns", limits.anonymous_turns_a_minute, now_ms))
    if limits.budget_a_day is not None:
        day_ms = now_ms // _DAY_MS * _DAY_MS
        most = most_in(limits.budget_unit)
        counter = f"{limits.budget_unit}#{utc(day_ms):%Y-%m-%d}"
        taken.append(QuotaCharge(counter, most, limits.budget_a_day, day_ms + _DAY_MS))
        if most > limits.budget_a_day:  # before a read or a write is made for what can never fit
            raise exceeded(taken[-1], now_ms)
    return tuple(taken)


def wait_charges(owner: str, limits: OwnerLimits, now_ms: int) -> QuotaCharges | None:
    """The charges for waiting for a busy session: a wait holds a handler, so waits have the rate limits of turns."""
    taken = []
    if limits.turns_a_minute is not None:
        taken.append(_one_a_minute("waits", limits.turns_a_minute, now_ms))
    if limits.anonymous_turns_a_minute is not None:
        taken.append(_shared_by_anonymous("anonymous_waits", limits.anonymous_turns_a_minute, now_ms))
    return QuotaCharges(owner, tuple(taken)) if taken else None


def creation_charges(owner: str, limits: OwnerLimits, now_ms: int) -> QuotaCharges | None:
    """The charges for making a session or claiming one, to the owner who has it then."""
    if limits.sessions_a_day is None:
        return None
    day_ms = now_ms // _DAY_MS * _DAY_MS
    counter = f"sessions#{utc(day_ms):%Y-%m-%d}"
    return QuotaCharges(owner, (QuotaCharge(counter, Decimal(1), Decimal(limits.sessions_a_day), day_ms + _DAY_MS),))


def anonymous_creation_charges(source: str, creations_an_hour: int | None, now_ms: int) -> QuotaCharges | None:
    """The charges for making an anonymous session, to the source address from which it is made."""
    if creations_an_hour is None:
        return None
    hour_ms = now_ms // _HOUR_MS * _HOUR_MS
    counter = f"anonymous_creations#{utc(hour_ms):%Y-%m-%dT%H}"
    return QuotaCharges(source, (QuotaCharge(counter, Decimal(1), Decimal(creations_an_hour), hour_ms + _HOUR_MS),))


def settlement(taken: tuple[QuotaCharge, ...], calls: Sequence[ModelCall]) -> tuple[QuotaCharge, ...]:
    """The charges that correct a budget's reservation to what the calls used; an amount below 0 is given back.

    A budget of dollars keeps its reservation when the cost of any call is not known. Without calls nothing was used.
    """
    used_by_unit = {"tokens": Decimal(total_tokens(calls)), "usd": total_cost(calls) if calls else Decimal(0)}
    settled = []
    for charge in taken:
        unit = charge.counter.partition("#")[0]
        used = used_by_unit.get(unit)
        if used is not None and used != charge.amount:
            settled.append(replace(charge, amount=used - charge.amount))
    return tuple(settled)


def _one_a_minute(counted: str, limit: int, now_ms: int) -> QuotaCharge:
    minute_ms = now_ms // _MINUTE_MS * _MINUTE_MS
    counter = f"{counted}#{utc(minute_ms):%Y-%m-%dT%H:%M}"
    return QuotaCharge(counter, Decimal(1), Decimal(limit), minute_ms + _MINUTE_MS)


def _shared_by_anonymous(counted: str, limit: int, now_ms: int) -> QuotaCharge:
    return replace(_one_a_minute(counted, limit, now_ms), owner=_ALL_ANONYMOUS)


def _most(settings: ModelSettings, prompt: int, unit: str, now_ms: int) -> Decimal:
    """The most that a call can use, in the budget's unit. Raises QuotaExceeded without a known price."""
    searches, fetches = web_uses(settings.tools)
    prompt += (searches + fetches) * WEB_USE_TOKENS
    if unit == "tokens":
        return Decimal(prompt + settings.max_tokens)
    most = most_usd(settings.model, prompt, settings.max_tokens, utc_date(now_ms), searches)
    if most is None:
        raise QuotaExceeded(unit)
    return most


def _most_of(calls: Sequence[PossibleCall], unit: str, now_ms: int) -> Decimal:
    """The most that all calls can use, in the budget's unit. Raises QuotaExceeded without a known price."""
    if unit == "tokens":
        return Decimal(sum((call.prompt_tokens + call.output_tokens) * call.times for call in calls))
    total, on = Decimal(0), utc_date(now_ms)
    for call in calls:
        most = most_usd(call.model, call.prompt_tokens, call.output_tokens, on, call.searches)
        if most is None:
            raise QuotaExceeded(unit)
        total += most * call.times
    return total

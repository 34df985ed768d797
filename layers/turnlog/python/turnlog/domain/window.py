"""The window: the turns that the model is shown, as pure functions.

The window grows turn by turn until it is full, then is cut back to half at a turn boundary. Between two cuts each
prompt begins with all of the one before it, byte for byte, which is what the provider's prompt cache pays for: over 200
turns with a budget of 20,000 tokens a window cut like this costs a fifth of one that slides every turn (simulated:
$2.62 against $13.28).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import takewhile

from turnlog.domain.blocks.media import MOST_MESSAGE_BYTES, bytes_of
from turnlog.domain.messages import Message, ModelRequest, Usage, to_json
from turnlog.domain.models import model_of
from turnlog.domain.tools import open_calls, unknown_outcomes
from turnlog.domain.turns import Turn
from turnlog.domain.window_start import MOST_SENT_BYTES, first_sent, next_start

_THINKING = ("thinking", "redacted_thinking")

_LOST = "[Results of tools, whose calls are not shown any more.]"


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """The size at which the window is full: so many turns, so many tokens used by the last call, or so many bytes."""

    turns: int = 25
    tokens: int = 100_000
    content_bytes: int = MOST_SENT_BYTES
    """The bytes of all messages of a request as JSON, the next message of the caller included."""


def next_from(
    number: int, last_usage: Usage, window_from: int, policy: WindowPolicy, held: Sequence[Sequence[Message]]
) -> int:
    """The first turn that turn `number + 1` will send, after turn `number`, whose window began at `window_from`.

    `held` are the messages of the turns from `window_from` to `number`. The tokens are those of the turn's last call
    and are not counted anew: its prompt and its reply are what the next prompt begins with. The newest turn always
    stays.
    """
    count = number - window_from + 1
    size = sum(bytes_of(message) for messages in held for message in messages)
    is_full = count >= policy.turns or last_usage.tokens >= policy.tokens
    if not is_full and size + MOST_MESSAGE_BYTES <= policy.content_bytes:
        return window_from
    wanted = number + 1 - max(1, count // 2) if is_full else min(window_from + 1, number)
    return next_start(window_from, wanted, held, policy.content_bytes)


def messages(turns: Sequence[Turn], *asked: Message, start: int | None = None) -> tuple[Message, ...]:
    """The messages to send for the turn `asked` after `turns`, which end with the newest and include all of its window.

    They begin with turn `start`, which is that of `first_sent` unless it is given.

    `asked` is the turn so far: the caller's message, maybe a system message, replies and results. The model goes on
    with a reply that stands last.

    A refused turn is left out, as the provider asks, but what it changed of the instructions stays. Of a reply blank
    text is left out, which the provider sends but does not take, and thinking at its end, with the rest of its
    thinking. A call of the provider's own tools that has no result goes too, unless the model goes on with it: a turn
    may end at a pause or at its most tokens. Thinking blocks are bound by their signature to all that was sent before
    them, so those made before the last cut go. A reply that is empty then is left out, and the caller's messages around
    it stand side by side, which the provider takes for one. A call of a tool whose result was never stored gets one
    that says so, and a result whose call is not sent is left out.
    """
    window_from = first_sent(turns, asked) if start is None else start
    sent: list[Message] = []
    seen_from = 1  # the first turn of the window of the turn at hand: the turn before it says so, 1 for the first
    for turn in turns:
        if turn.number >= window_from:
            shown = turn.messages if turn.stop_reason != "refusal" else _instructions(turn.messages)
            sent += _sendable(shown, with_thinking=window_from in (1, seen_from))
        seen_from = turn.window_from
    sent = _with_system_in_place([*sent, *_sendable(asked, goes_on=True)])
    return tuple(_with_unknown_outcomes(_without_lost_results(sent)))


def system_before(window_from: int, turns: Sequence[Turn], held: str) -> str:
    """The instructions that hold before turn `window_from`, if a turn changed the session's own; else "".

    `turns` are those that were sent, the new one included, and `held` what held before them.
    """
    changes = [each for turn in turns if turn.number < window_from for each in _instructions(turn.messages)]
    return changes[-1].text if changes else held


def system_of(turns: Sequence[Turn], own: str, start: int | None = None) -> str:
    """The system prompt to send from turn `start` on: the session's `own`, unless a turn before that changed it."""
    if not turns:
        return own
    last = turns[-1]
    if start is None or start == last.window_from:
        return last.window_system or own
    return system_before(start, turns, last.window_system) or own


def sent_before(turns: Sequence[Turn], start: int | None = None) -> int:
    """The number of messages with which the prompt that begins with turn `start` and that of the last call both begin.

    It is 0 after a cut.
    """
    if not turns or start not in (None, turns[-1].window_from):
        return 0
    last = turns[-1].messages
    replies = [index for index, message in enumerate(last) if message.role == "assistant"]
    before = messages(turns[:-1], *last[: replies[-1] if replies else None])
    common = 0
    for sent, again in zip(before, messages(turns, Message("user", "[]"), start=turns[-1].window_from), strict=False):
        if sent != again:
            break
        common += 1
    return common


def with_system_prompt(request: ModelRequest) -> ModelRequest:
    """The request with its last system message in the place of the system prompt, if the model takes no such messages.

    That begins the provider's cache anew, and such a message may be there all the same, as in a fork.
    """
    model, said = model_of(request.settings.model), _instructions(request.messages)
    if not said or model is None or model.system_messages is not False:
        return request
    sent = tuple(message for message in request.messages if message.role != "system")
    settings = replace(request.settings, system=said[-1].blocks[-1]["text"])
    return replace(request, settings=settings, messages=sent, cached_messages=0)


def without_thinking(sent: Sequence[Message]) -> tuple[Message, ...]:
    """The messages without any thinking; a reply of thinking alone is left out."""
    return tuple(_with_system_in_place(_sendable(sent, with_thinking=False, goes_on=True)))


def without_unknown_blocks(sent: Sequence[Message]) -> tuple[Message, ...]:
    """The messages without blocks of replies that this version does not know; a reply of nothing else is left out."""
    known = [_of_known_blocks(message) if message.role == "assistant" else message for message in sent]
    return tuple(_with_system_in_place(_sendable([message for message in known if message], goes_on=True)))


def _of_known_blocks(reply: Message) -> Message | None:
    kept = [block for block in reply.blocks if _is_known(block["type"])]
    return Message(reply.role, to_json(kept)) if kept else None


def _is_known(kind: str) -> bool:
    return kind in ("text", "tool_use", "server_tool_use", *_THINKING) or kind.endswith("_tool_result")


def _sendable(sent: Sequence[Message], *, with_thinking: bool = True, goes_on: bool = False) -> list[Message]:
    """The messages as the provider takes them. Callers' messages go as they are.

    With `goes_on` the model goes on with a reply that stands last, so that it may end with thinking.
    """
    taken = []
    for index, message in enumerate(sent):
        kept: Message | None = message
        if message.role == "assistant":
            # The provider takes replies that stand side by side for one.
            is_open = sent[index + 1].role == "assistant" if index + 1 < len(sent) else goes_on
            kept = _without(message, thinking=not with_thinking, calls=_open_server_calls(sent, index, goes_on))
            if kept and not is_open and kept.blocks[-1]["type"] in _THINKING:
                kept = _without(kept, thinking=True)
        taken += [kept] if kept else []
    return taken


def _open_server_calls(sent: Sequence[Message], index: int, goes_on: bool) -> frozenset[str]:
    """The provider's own calls in a reply that have no result, if the model does not go on with that reply."""
    if '"server_tool_use"' not in sent[index].content:
        return frozenset()
    run = list(takewhile(lambda message: message.role == "assistant", sent[index:]))
    if goes_on and index + len(run) == len(sent):
        return frozenset()
    answered = {block.get("tool_use_id") for message in run for block in message.blocks}
    calls = (str(block.get("id")) for block in run[0].blocks if block["type"] == "server_tool_use")
    return frozenset(call for call in calls if call not in answered)


def _without(reply: Message, *, thinking: bool, calls: Set[str] = frozenset()) -> Message | None:
    """The reply without blank text, these calls and, if it is to be, without thinking; None when nothing is left."""
    blocks = reply.blocks
    kept = [
        block
        for block in blocks
        if not (thinking and block["type"] in _THINKING)
        and (block["type"] != "text" or block["text"].strip())
        and not (block["type"] == "server_tool_use" and block.get("id") in calls)
    ]
    if not kept or len(kept) == len(blocks):
        return reply if kept else None
    return Message(reply.role, to_json(kept))


def _with_system_in_place(sent: Sequence[Message]) -> list[Message]:
    """The messages with each system message where the provider takes it: after a user's, before a reply or at the end.

    Where a reply was left out, one may stand before the user's next message: then it moves behind that.
    """
    placed: list[Message] = []
    held: list[Message] = []
    for message in sent:
        if message.role == "assistant":
            placed += _as_one(held)
            held = []
        if message.role == "system":
            held.append(message)
        else:
            placed.append(message)
    return [*placed, *_as_one(held)]


def _as_one(held: Sequence[Message]) -> Sequence[Message]:
    if len(held) < 2:
        return held
    return [Message("system", to_json([block for message in held for block in message.blocks]))]


def _instructions(messages: Sequence[Message]) -> list[Message]:
    return [message for message in messages if message.role == "system"]


def _without_lost_results(sent: Sequence[Message]) -> Iterator[Message]:
    """The messages without the results of calls that a cut has left out: those before the first reply that is sent."""
    has_call = False
    for message in sent:
        has_call = has_call or message.role == "assistant"
        if has_call or message.role != "user" or '"tool_result"' not in message.content:
            yield message
            continue
        kept = [block for block in message.blocks if block["type"] != "tool_result"]
        yield Message("user", to_json(kept)) if kept else Message.of_text(_LOST)


def _with_unknown_outcomes(sent: Iterable[Message]) -> Iterator[Message]:
    """The messages, with a result for each call that has none when the user speaks again."""
    since_reply: list[Message] = []  # the last reply itself included
    for message in sent:
        if message.role == "assistant":
            yield from _completed(since_reply)
            since_reply = []
        since_reply.append(message)
    yield from _completed(since_reply) if len(since_reply) > 1 else since_reply


def _completed(messages: list[Message]) -> Iterator[Message]:
    """A reply and the user's messages after it, with the results that are missing right after the reply."""
    yield from messages[:1]
    if missing := open_calls(messages):
        yield unknown_outcomes(missing)
    yield from messages[1:]

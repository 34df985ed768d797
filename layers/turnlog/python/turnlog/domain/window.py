"""The window: the turns that the model is shown, as pure functions.

The window grows turn by turn until it is full, then is cut back to half at a turn boundary. Between two cuts each
prompt begins with all of the one before it, byte for byte, which is what the provider's prompt cache pays for: over 200
turns with a budget of 20,000 tokens a window cut like this costs a fifth of one that slides every turn (simulated:
$2.62 against $13.28).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from turnlog.domain.messages import Message, Usage, to_json
from turnlog.domain.tools import open_calls, unknown_outcomes
from turnlog.domain.turns import Turn

_THINKING = ("thinking", "redacted_thinking")


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """The size at which the window is full: so many turns, or so many tokens used by the last call."""

    turns: int = 25
    tokens: int = 100_000


def next_from(number: int, last_usage: Usage, window_from: int, policy: WindowPolicy) -> int:
    """The first turn that turn `number + 1` will send, after turn `number`, whose window began at `window_from`.

    The tokens are those of the turn's last call and are not counted anew: its prompt and its reply are what the next
    prompt begins with. The newest turn always stays.
    """
    held = number - window_from + 1
    if held < policy.turns and last_usage.tokens < policy.tokens:
        return window_from
    return number + 1 - max(1, held // 2)


def system_before(window_from: int, turns: Sequence[Turn], held: str) -> str:
    """The instructions that hold before turn `window_from`, if a turn changed the session's own; else "".

    `turns` are those that were sent, the new one included, and `held` what held before them.
    """
    changes = [each for turn in turns if turn.number < window_from for each in turn.messages if each.role == "system"]
    return changes[-1].text if changes else held


def system_of(turns: Sequence[Turn], own: str) -> str:
    """The system prompt to send after these turns: the session's `own`, unless one before the window changed it."""
    return (turns[-1].window_system if turns else "") or own


def messages(turns: Sequence[Turn], *begun: Message) -> tuple[Message, ...]:
    """The messages to send for a turn that has `begun` with these, after `turns`.

    `turns` end with the newest and include all of its window. All messages of a turn are sent, in order, or none. A
    refused turn is left out, as the provider asks, but what it changed of the instructions stays. Blank text, which the
    provider sends but does not take, is left out, and so is a reply of which nothing is left then. Thinking blocks are
    bound by their signature to all that was sent before them, so those made before the last cut go. A call of a tool
    whose result was never stored gets one that says so.
    """
    window_from = turns[-1].window_from if turns else 1
    sent: list[Message] = []
    seen_from = 1  # the first turn of the window of the turn at hand: the turn before it says so, 1 for the first
    change: list[Message] = []  # of the instructions, by a turn that is left out: it follows the next user's message
    for turn in turns:
        if turn.number >= window_from:
            own_change = [each for each in turn.messages if each.role == "system"]
            if turn.stop_reason == "refusal":
                change = own_change or change
            else:
                uncut = window_from in (1, seen_from)
                shown = [turn.message, *(own_change or change), *turn.messages[1 + len(own_change) :]]
                sent += filter(None, (sendable(each, with_thinking=uncut) for each in shown))
                change = []
        seen_from = turn.window_from
    sent += [*begun[:1], *(begun[1:] if _changes_system(begun) else [*change, *begun[1:]])]
    return tuple(_with_unknown_outcomes(filter(None, map(sendable, sent))))


def already_sent(prompt: Sequence[Message]) -> int:
    """The number of messages of a prompt that the call before it had sent: all before its reply to them."""
    at = len(prompt)
    while at and prompt[at - 1].role != "assistant":
        at -= 1
    while at and prompt[at - 1].role == "assistant":
        at -= 1
    return at


def sendable(message: Message, *, with_thinking: bool = True) -> Message | None:
    """The message as the provider takes it; None when nothing of a reply is left. Callers' messages go as they are."""
    if message.role != "assistant":
        return message
    blocks = message.blocks
    kept = [
        block
        for block in blocks
        if (with_thinking or block["type"] not in _THINKING) and (block["type"] != "text" or block["text"].strip())
    ]
    if len(kept) == len(blocks):
        return message if kept else None
    return Message(message.role, to_json(kept)) if kept else None


def _changes_system(begun: Sequence[Message]) -> bool:
    return any(message.role == "system" for message in begun)


def _with_unknown_outcomes(sent: Iterable[Message]) -> Iterator[Message]:
    """The messages, with a result for each call that has none when the user speaks again."""
    before: list[Message] = []  # since the last reply, itself included
    for message in sent:
        if message.role == "assistant":
            yield from _completed(before)
            before = []
        before.append(message)
    yield from _completed(before) if len(before) > 1 else before


def _completed(messages: list[Message]) -> Iterator[Message]:
    """A reply and the user's messages after it, with the results that are missing right after the reply."""
    yield from messages[:1]
    if missing := open_calls(messages):
        yield unknown_outcomes(missing)
    yield from messages[1:]

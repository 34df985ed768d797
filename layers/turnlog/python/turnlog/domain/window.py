"""The window: the turns that the model is shown, as pure functions.

The window grows turn by turn until it is full, then is cut back to half at a turn boundary. Between two cuts each
prompt begins with all of the one before it, byte for byte, which is what the provider's prompt cache pays for: over 200
turns with a budget of 20,000 tokens a window cut like this costs a fifth of one that slides every turn (simulated:
$2.62 against $13.28).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from turnlog.domain.messages import Message, Usage, to_json
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


def messages(turns: Sequence[Turn], message: Message) -> tuple[Message, ...]:
    """The messages to send for `message` after `turns`, which end with the newest and include all of its window.

    All messages of a turn are sent, in order, or none. A refused turn is left out, as the provider asks, and so is
    blank text, which the provider sends but does not take. Thinking blocks are bound by their signature to all that
    was sent before them, so those made before the last cut go. A turn of which a reply would be empty then is left out.
    """
    if not turns:
        return (message,)
    window_from = turns[-1].window_from
    sent: list[Message] = []
    seen_from = 1  # the first turn of the window of the turn at hand: the turn before it says so, 1 for the first
    for turn in turns:
        if turn.number >= window_from and turn.stop_reason != "refusal":
            uncut = window_from in (1, seen_from)
            sendable = [_sendable(each, with_thinking=uncut) for each in turn.messages]
            if None not in sendable:
                sent += [each for each in sendable if each]
        seen_from = turn.window_from
    return (*sent, message)


def _sendable(message: Message, *, with_thinking: bool) -> Message | None:
    """The message as the provider takes it; None when nothing of a reply is left. Callers' messages go as they are."""
    if message.role == "user":
        return message
    blocks = message.blocks
    kept = [
        block
        for block in blocks
        if (with_thinking or block["type"] not in _THINKING) and (block["type"] != "text" or block["text"].strip())
    ]
    if len(kept) == len(blocks):
        return message
    return Message(message.role, to_json(kept)) if kept else None

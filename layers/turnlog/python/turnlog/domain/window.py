"""Which turns the model sees: pure functions.

The window grows turn by turn until it is full, then is cut back to half at a turn boundary. Between two cuts each
prompt begins with all of the one before it, byte for byte, which is what the provider's prompt cache pays for: over 200
turns with a budget of 20,000 tokens a window cut like this costs a fifth of one that slides every turn (simulated:
$2.62 against $13.28).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from turnlog.domain.messages import Message, Reply, to_json
from turnlog.domain.turns import Turn

_THINKING = ("thinking", "redacted_thinking")


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """When the window is full: at so many turns, or when the last call has used so many tokens."""

    turns: int = 25
    tokens: int = 100_000


def next_from(number: int, reply: Reply, window_from: int, policy: WindowPolicy) -> int:
    """The first turn that turn `number + 1` will send, after turn `number`, whose window began at `window_from`.

    The tokens are those of the last usage, not counted anew: prompt and reply are what the next prompt begins with.
    The newest turn always stays.
    """
    held = number - window_from + 1
    if held < policy.turns and reply.usage.tokens < policy.tokens:
        return window_from
    return number + 1 - max(1, held // 2)


def messages(turns: Sequence[Turn], message: Message) -> tuple[Message, ...]:
    """What is sent for `message` after `turns`, which end with the newest and reach back to before its `window_from`.

    A refused turn is left out, as the provider asks, and so is blank text, which it sends but does not take. Thinking
    blocks are bound by their signature to all that was sent before them, so those made before the last cut go.
    """
    if not turns:
        return (message,)
    window_from = turns[-1].window_from
    sent: list[Message] = []
    seen_from = 1  # where the window of the turn at hand began: at what the turn before it says, at 1 for the first
    for turn in turns:
        if turn.number >= window_from and turn.reply.stop_reason != "refusal":
            uncut = window_from in (1, seen_from)
            answer = _sendable(turn.reply.message, with_thinking=uncut)
            if answer:
                sent += [turn.message, answer]
        seen_from = turn.window_from
    return (*sent, message)


def _sendable(message: Message, *, with_thinking: bool) -> Message | None:
    blocks = message.blocks
    kept = [
        block
        for block in blocks
        if (with_thinking or block["type"] not in _THINKING) and (block["type"] != "text" or block["text"].strip())
    ]
    if len(kept) == len(blocks):
        return message
    return Message(message.role, to_json(kept)) if kept else None

"""The CPU of a turn beyond the model's time, warm, with 60 KB of history, in a process of the session function.

It is all that the process computes: the handler, boto3's three calls with limits for the owner, and the SDK's call of a
Claude that answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from tests.bench.deployment import Deployment, event, new_key, prose

EARLIER, CHARACTERS, REPLY_TOKENS = 12, 3_800, 300  # 12 turns of 5 KB, since a token of a reply is 4 characters here
TARGET_MS = 15


@dataclass(frozen=True, slots=True)
class WarmTurn:
    """The CPU of some turns: the least is the one that other processes disturbed least."""

    history_bytes: int
    turns: int
    least_ms: float
    median_ms: float


def measure(made: Deployment, turns: int = 10) -> WarmTurn:
    """The CPU of so many short turns after 60 KB of history, the window not being cut by them."""
    with made.worker("session") as worker:
        session_id = worker.answer(event("POST", "/sessions", {"max_tokens": REPLY_TOKENS}))["session_id"]

        def cpu_ms(said: str) -> float:
            taken = event("POST", "/sessions/{id}/turns", {"message": said}, {"id": session_id}, key=new_key())
            return worker.ask(taken).cpu_s * 1000

        for _ in range(EARLIER):
            cpu_ms(prose(CHARACTERS))
        found = sorted(cpu_ms("One more.") for _ in range(turns))
    return WarmTurn(EARLIER * (CHARACTERS + 4 * REPLY_TOKENS), turns, round(found[0], 1), round(median(found), 1))


def line(found: WarmTurn) -> str:
    """Returns the sentence for the terminal."""
    return (
        f"{found.least_ms} ms of CPU at the least and {found.median_ms} in the middle of {found.turns} warm turns with "
        f"{found.history_bytes / 1000:.0f} KB of history; the target is {TARGET_MS} where nobody else computes"
    )

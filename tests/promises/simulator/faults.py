"""Faults of one call of DynamoDB, of the model or of tools, and plans that say when each happens."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

MODEL = "model"
TOOLS = "tools"
READS = ("query", "get_item")
WRITES = ("put_item", "delete_item", "update_item", "batch_write_item", "transact_write_items")


class Fault(StrEnum):
    """A fault of a call of DynamoDB, then of the model and of tools. "Out" fails all tries of the same call."""

    THROTTLED = "throttled"
    CONFLICT = "conflict"  # with another transaction
    LOST_BEFORE = "lost-before"  # never applied, and the caller cannot know
    LOST_AFTER = "lost-after"  # applied, and the caller cannot know
    LATE = "late"  # applied after the caller has given up on it
    OUT_BEFORE = "out-before"
    OUT_AFTER = "out-after"
    OUT_LATE = "out-late"
    CRASH_BEFORE = "crash-before"
    CRASH_AFTER = "crash-after"
    CRASH_LATE = "crash-late"  # the process dies, and its request is applied later
    STALL = "stall"  # the process stands still for up to 70 s, then goes on as if nothing had been
    HELD_BRIEFLY = "held-briefly"  # the process stands still for 1 to 3 steps of others, however long they take
    HELD = "held"  # for 4 to 10
    HELD_LONG = "held-long"  # for 11 to 30
    PARTIAL = "partial"  # of a batch, some writes are left over
    REFUSED = "refused"  # the model answers 429 or is not reached: not billed
    FAILED = "failed"  # the model's answer is lost: billed
    SLOW = "slow"  # the process is frozen while the model or a tool is at it, until after its lease

    @property
    def lasts(self) -> bool:
        """True unless the next try turns it into a short delay."""
        return self not in (Fault.THROTTLED, Fault.CONFLICT, Fault.LOST_BEFORE)


_ANY_CALL = (Fault.THROTTLED, Fault.LOST_BEFORE, Fault.OUT_BEFORE, Fault.CRASH_BEFORE, Fault.STALL)
_ANY_WRITE = (
    *(Fault.LOST_AFTER, Fault.LATE, Fault.OUT_AFTER, Fault.OUT_LATE, Fault.CRASH_AFTER, Fault.CRASH_LATE),
    *(Fault.HELD_BRIEFLY, Fault.HELD, Fault.HELD_LONG),
)


def possible(operation: str) -> tuple[Fault, ...]:
    """Returns the faults that make a difference for the operation."""
    if operation == MODEL:
        return (Fault.REFUSED, Fault.FAILED, Fault.SLOW, Fault.CRASH_BEFORE, Fault.CRASH_AFTER)
    if operation == TOOLS:
        return (Fault.SLOW, Fault.CRASH_BEFORE, Fault.CRASH_AFTER)
    if operation in READS:
        return _ANY_CALL
    if operation == "batch_write_item":
        return (*_ANY_CALL, *_ANY_WRITE, Fault.PARTIAL)
    return (*_ANY_CALL, *_ANY_WRITE, Fault.CONFLICT)


class Plan(Protocol):
    def fault(self, index: int, operation: str) -> Fault | None:
        """Returns the fault of the run's call number `index`, counted from 0 over all actors."""


@dataclass(frozen=True)
class ListedFaults:
    """Has these faults, and no others."""

    faults: Mapping[int, Fault] = field(default_factory=dict)

    def fault(self, index: int, operation: str) -> Fault | None:
        fault = self.faults.get(index)
        return fault if fault in possible(operation) else None


@dataclass(frozen=True)
class RandomFaults:
    """Fails each call with the probability `rate`, in one of the ways that are possible for it and `allowed`."""

    chance: random.Random
    rate: float
    allowed: Sequence[Fault] = tuple(Fault)

    def fault(self, index: int, operation: str) -> Fault | None:
        if self.chance.random() >= self.rate:
            return None
        choices = [fault for fault in possible(operation) if fault in self.allowed]
        return self.chance.choice(choices) if choices else None

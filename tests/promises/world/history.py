"""The history of a run as its actors saw it: every request, and its answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from tests.promises.simulator.network import Process
from turnlog.domain.messages import Message
from turnlog.domain.reply_events import ReplyEvent
from turnlog.domain.sessions import Session, SessionView
from turnlog.domain.turns import Lease, Step
from turnlog.errors import TurnlogError
from turnlog.usecases.turn_protocol import TakenTurn

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Address:
    """The owner and the id of a session, and its partition in DynamoDB."""

    owner: str
    id: str
    pk: str


@dataclass(frozen=True, slots=True)
class Want:
    """A turn that somebody wants. Under one key all wants have the same body, unless a caller makes a mistake."""

    key: bytes
    fingerprint: bytes
    message: Message

    @property
    def text(self) -> str:
        return str(self.message.blocks[0]["text"])

    def anew(self) -> Want:
        """Returns the same message under another key."""
        return replace(self, key=self.key[::-1])


@dataclass(kw_only=True)
class Act(Generic[Result]):
    """An act of a process between two moments of true time; `clock_ms` is its own clock at the beginning.

    It ended with a result, with an error, or not at all because the process died.
    """

    address: Address
    process: Process
    began_ms: int
    clock_ms: int
    ended_ms: int = -1
    ended_clock_ms: int = -1
    result: Result | None = None
    error: TurnlogError | None = None

    @property
    def succeeded(self) -> bool:
        return self.result is not None


@dataclass
class ModelCall:
    """A call of the model for the next step, counted from 1, of a turn.

    `lost` when it may have been billed and its reply never reached the process.
    """

    taking: Taking
    number: int
    step: int
    began_ms: int
    ended_ms: int = -1
    billed: bool = True
    lost: bool = False


@dataclass
class ToolRun:
    """A run of one call of a tool."""

    taking: Taking
    number: int
    step: int
    id: str
    began_ms: int


@dataclass
class Acknowledged:
    """A write of a lease that was acknowledged, with the step that was stored with it, if there was one."""

    at_ms: int
    lease: Lease
    step: Step | None = None


@dataclass
class Shown:
    """An event that the reader of a streamed turn got."""

    at_ms: int
    event: ReplyEvent


@dataclass(kw_only=True)
class Taking(Act[TakenTurn]):
    """`leases` are those that it tried to take, and `written` all writes of a lease that it knows to be stored.

    A turn that `is_streamed` is `shown` to a reader, who may leave after so many events. At `lost_ms` its handler found
    that it had lost its lease.
    """

    want: Want
    leases: list[Lease] = field(default_factory=list)
    written: list[Acknowledged] = field(default_factory=list)
    calls: list[ModelCall] = field(default_factory=list)
    runs: list[ToolRun] = field(default_factory=list)
    is_streamed: bool = False
    leaves_after: int | None = None
    shown: list[Shown] = field(default_factory=list)
    lost_ms: int = -1

    def show(self, event: ReplyEvent) -> None:
        """Shows the event to the reader, if that is still there."""
        if self.leaves_after is None or len(self.shown) < self.leaves_after:
            self.shown.append(Shown(self.process.network.schedule.now_ms, event))

    def lease_at(self, ms: int) -> Lease:
        """The lease as it was written last, before that moment, for all that the handler knows."""
        return [each.lease for each in self.written if each.at_ms <= ms][-1]


@dataclass(kw_only=True)
class Cancelling(Act[bool]):
    """A wish that a running turn stops; `token` is that of its lease. Its result is true when it was noted."""

    number: int = 0
    token: str = ""


@dataclass(kw_only=True)
class Reading(Act[SessionView]):
    """A read of all turns."""


@dataclass(kw_only=True)
class Deleting(Act[bool]):
    pass


@dataclass(kw_only=True)
class Erasing(Act[int]):
    """An erasure of an owner, which is all that its address says; for each of its sessions there is a Deleting too.

    `keys` are the data keys that the owner had at the beginning.
    """

    keys: list[tuple[str, str]]


@dataclass(kw_only=True)
class Moving(Act[Session]):
    to: Address
    key: str


@dataclass(kw_only=True)
class Forking(Act[bool]):
    number: int
    child: Address


@dataclass(kw_only=True)
class Creating(Act[Session]):
    pass


@dataclass(kw_only=True)
class Sweeping(Act[int]):
    pass

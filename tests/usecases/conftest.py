"""The use cases as an entry point calls them, without one: plain values in, over a store in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes import MODEL, OWNER, SERVER_KEY, HashModel, HeldClock, NoDocuments, NotedTrail, audit_of
from turnlog.adapters.local.memory import MemorySessionStore
from turnlog.domain.limits import DEFAULT_MAX_TOKENS, OwnerLimits
from turnlog.domain.messages import Message, ModelRequest, ModelSettings
from turnlog.domain.sessions import SessionSettings, SessionView
from turnlog.domain.window import WindowPolicy
from turnlog.usecases.account import ExportPart, Receipt, erase_everything, export_everything
from turnlog.usecases.ask import QueryResult, ask
from turnlog.usecases.caller import Caller
from turnlog.usecases.policy import AnonymousLimits, CreationPolicy, SessionLife
from turnlog.usecases.sessions import NewSession, create_anonymous_session, create_session
from turnlog.usecases.take_turn import take_turn
from turnlog.usecases.transfers import claim_session, fork_session, rotate_secret
from turnlog.usecases.turn_protocol import TakenTurn
from turnlog.usecases.turn_request import TurnPolicy

ADA = Caller(OWNER, source="203.0.113.7")
EVE = Caller("https://issuer.example/|eve", source="203.0.113.8")
STRANGER = Caller(source="203.0.113.9")


@dataclass
class Service:
    """One deployment: its ports, its rules, and a shorthand for each use case."""

    store: MemorySessionStore = field(default_factory=MemorySessionStore)
    model: HashModel = field(default_factory=HashModel)
    trail: NotedTrail = field(default_factory=NotedTrail)
    clock: HeldClock = field(default_factory=HeldClock)
    turns: TurnPolicy = field(default_factory=TurnPolicy)
    anonymous: AnonymousLimits = field(default_factory=AnonymousLimits)

    @property
    def creation(self) -> CreationPolicy:
        life = SessionLife(timedelta(minutes=30), timedelta(days=1))
        defaults = SessionSettings(MODEL, DEFAULT_MAX_TOKENS)
        return CreationPolicy(defaults, life, self.turns.owner, self.anonymous, WindowPolicy())

    @property
    def actions(self) -> list[str]:
        """The actions in the audit trail, in order."""
        return [action for action, _ in self.trail.events]

    def create(self, caller: Caller = ADA, key: str | None = None, **asked: Any) -> SessionView:
        return create_session(caller, NewSession(**asked), key=key, **self._making(caller))

    def create_anonymous(self, secret_sha256: str | None) -> SessionView:
        return create_anonymous_session(STRANGER, NewSession(secret_sha256=secret_sha256), **self._making(STRANGER))

    def fork(self, caller: Caller, parent_id: str, turn: int, key: str | None = None) -> SessionView:
        return fork_session(caller, parent_id, turn, key=key, **self._making(caller))

    def rotate(self, caller: Caller, session_id: str, secret_sha256: str) -> SessionView:
        moving = self._making(caller) | {"remaining_s": lambda: 29.0}
        return rotate_secret(caller, session_id, secret_sha256, key="r", **moving)

    def claim(self, caller: Caller, session_id: str, secret: str) -> SessionView:
        moving = self._making(caller) | {"remaining_s": lambda: 29.0}
        return claim_session(caller, session_id, secret, key="c", **moving)

    def take(
        self, caller: Caller, session_id: str, said: str | Message, key: str | None = None, **more: Any
    ) -> TakenTurn:
        message = Message.of_text(said) if isinstance(said, str) else said
        return take_turn(
            caller,
            session_id,
            message,
            key=key or message.content,
            store=self.store,
            model=self.model,
            tools=None,
            quotas=self.store,
            server_key=SERVER_KEY,
            policy=self.turns,
            anonymous=self.anonymous,
            clock=self.clock,
            remaining_s=lambda: 60.0,
            answer_s=lambda: 29.0,
            sleep=lambda seconds: self.clock.tick(seconds=seconds),
            **more,
        )

    def ask(
        self,
        caller: Caller,
        text: str,
        limits: OwnerLimits | None = None,
        *,
        continuable: bool = False,
        **more: Any,
    ) -> QueryResult:
        return ask(
            caller,
            ModelRequest(ModelSettings(MODEL, DEFAULT_MAX_TOKENS), (Message.of_text(text),)),
            model=self.model,
            quotas=self.store,
            limits=limits or OwnerLimits(),
            seconds=lambda: 20.0,
            clock=self.clock,
            continuable_with=SERVER_KEY if continuable else None,
            **more,
        )

    def export(self, caller: Caller, cursor: str | None = None) -> ExportPart:
        return export_everything(
            caller,
            cursor=cursor,
            store=self.store,
            documents=NoDocuments(),
            server_key=SERVER_KEY,
            audit=audit_of(caller, self.trail),
            now_ms=self.clock(),
        )

    def erase(self, caller: Caller, answer_s: Callable[[], float] = lambda: 29.0) -> Receipt:
        return erase_everything(
            caller,
            store=self.store,
            documents=NoDocuments(),
            audit=audit_of(caller, self.trail),
            now_ms=self.clock(),
            answer_s=answer_s,
        )

    def _making(self, caller: Caller) -> dict[str, Any]:
        return {
            "store": self.store,
            "server_key": SERVER_KEY,
            "audit": audit_of(caller, self.trail),
            "policy": self.creation,
            "now_ms": self.clock(),
        }


@pytest.fixture
def service() -> Service:
    return Service()

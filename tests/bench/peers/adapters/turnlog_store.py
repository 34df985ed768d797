"""Turnlog's own take_turn over its DynamoDBSessionStore, wired as `runtime` wires them."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import boto3
from botocore.config import Config

from turnlog.adapters.dynamodb import DynamoDBSessionStore
from turnlog.clock import system_clock
from turnlog.domain.limits import OwnerLimits
from turnlog.domain.messages import Message, ModelRequest, Reply, Usage, to_json
from turnlog.domain.reply_events import OnEvent
from turnlog.domain.sessions import Session, SessionSettings, new_session_id
from turnlog.usecases.turn_protocol import run_turn
from turnlog.usecases.turn_request import TurnPolicy, TurnRequest

from .protocol import Ask, serve
from .tables import make_table

TABLE, USAGE_TABLE = "turnlog-sessions", "turnlog-usage"  # flask-session has "Sessions", and the emulator ignores case
OWNER = "https://issuer.example/|ada"
MODEL = "claude-sonnet-5-5"


class AskedModel:
    """Replies with what `ask` says, and with a usage as the API reports it: about four characters a token."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        shown = [text(each) for each in request.messages]
        said = self._ask(shown)
        usage = {
            "input_tokens": len(shown[-1]) // 4,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": sum(map(len, shown[:-1])) // 4,
            "output_tokens": len(said) // 4,
        }
        return Reply(
            request.settings.model, to_json([{"type": "text", "text": said}]), "end_turn", Usage(to_json(usage))
        )


def text(message: Message) -> str:
    return "".join(str(block["text"]) for block in message.blocks)


class TurnlogStore:
    """The settings are those of OwnerLimits."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._policy = TurnPolicy(owner=OwnerLimits(**settings))
        self._client = boto3.client("dynamodb", config=Config(retries={"total_max_attempts": 1}))

    def create(self, name: str) -> str:
        make_table(TABLE, "pk", "sk")
        make_table(USAGE_TABLE, "pk", "sk")
        now = system_clock()
        settings = SessionSettings(MODEL, max_tokens=4096, system="Be brief.")
        session = Session(OWNER, new_session_id(), now, now + 86_400_000, 1_800_000, settings)
        return self._store().create(session, name).id

    def turn(self, session: str, message: str, ask: Ask) -> None:
        began = time.monotonic()
        run_turn(
            _request(session, message),
            store=self._store(),
            model=AskedModel(ask),
            clock=system_clock,
            remaining_s=lambda: 60 - (time.monotonic() - began),
            policy=self._policy,
        )

    def history(self, session: str) -> list[str]:
        view = self._store().read(OWNER, session, system_clock(), newest=25)
        return [text(each) for turn in view.turns for each in (turn.message, turn.reply.message)]

    def _store(self) -> DynamoDBSessionStore:
        return DynamoDBSessionStore(self._client, TABLE, USAGE_TABLE)


def _request(session: str, message: str) -> TurnRequest:
    """The key and the fingerprint are 16 bytes, as those of `http` are."""
    key, fingerprint = (hashlib.sha256(f"{use} {message}".encode()).digest()[:16] for use in ("key", "fingerprint"))
    return TurnRequest(OWNER, session, key, fingerprint, Message.of_text(message))


if __name__ == "__main__":
    serve(TurnlogStore)

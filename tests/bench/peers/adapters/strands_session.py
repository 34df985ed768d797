"""strands-session-dynamodb's DynamoDBSessionManager: an item a message, numbered by the process that adds it."""

from __future__ import annotations

from typing import Any

import boto3
from strands_session_dynamodb import DynamoDBSessionManager

from .protocol import Ask, serve
from .strands_agent import agent, texts

TABLE = "strands-sessions"


class StrandsSession:
    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._aws = boto3.Session()

    def create(self, name: str) -> str:
        self._manager(name)  # makes the table as well
        return name

    def turn(self, session: str, message: str, ask: Ask) -> None:
        agent(self._manager(session), ask)(message)

    def history(self, session: str) -> list[str]:
        return texts(agent(self._manager(session), lambda _: "").messages)

    def _manager(self, session: str) -> DynamoDBSessionManager:
        return DynamoDBSessionManager(session, TABLE, boto_session=self._aws, **self._settings)


if __name__ == "__main__":
    serve(StrandsSession)

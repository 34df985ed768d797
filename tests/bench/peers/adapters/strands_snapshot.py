"""strands-dynamodb-storage under Strands' SnapshotSessionManager: one item holds the agent, written after each turn."""

from __future__ import annotations

from typing import Any

import boto3
from strands.session import SnapshotSessionManager
from strands_dynamodb_storage import DynamoDBStorage

from .protocol import Ask, serve
from .strands_agent import agent, texts
from .tables import make_table

TABLE = "agent-data"


class StrandsSnapshot:
    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._aws = boto3.Session()

    def create(self, name: str) -> str:
        make_table(TABLE, "pk", "sk")
        return name

    def turn(self, session: str, message: str, ask: Ask) -> None:
        agent(self._manager(session), ask)(message)

    def history(self, session: str) -> list[str]:
        return texts(agent(self._manager(session), lambda _: "").messages)

    def _manager(self, session: str) -> SnapshotSessionManager:
        storage = DynamoDBStorage(TABLE, boto_session=self._aws, **self._settings)
        return SnapshotSessionManager(session, storage=storage)


if __name__ == "__main__":
    serve(StrandsSnapshot)

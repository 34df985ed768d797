"""Chainlit's DynamoDBDataLayer: an item a message, stored when it is sent; a thread is read as a whole.

Only what the data layer must do for a turn is measured: the thread is read as it is when a chat is resumed, and the two
messages are stored. A Chainlit application stores a step for the run between them as well.
"""

from __future__ import annotations

import asyncio
from typing import Any

import boto3
import chainlit
from chainlit.context import init_http_context
from chainlit.data.dynamodb import DynamoDBDataLayer
from chainlit.utils import utc_now

from .protocol import Ask, serve
from .tables import make_table

TABLE = "ChainlitData"
INDEX: dict[str, Any] = {
    "IndexName": "UserThread",
    "KeySchema": [
        {"AttributeName": "UserThreadPK", "KeyType": "HASH"},
        {"AttributeName": "UserThreadSK", "KeyType": "RANGE"},
    ],
    "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["id", "name"]},
}


class ChainlitLayer:
    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._client = boto3.client("dynamodb")

    def create(self, name: str) -> str:
        keys = [{"AttributeName": each["AttributeName"], "AttributeType": "S"} for each in INDEX["KeySchema"]]
        make_table(TABLE, "PK", "SK", attributes=keys, GlobalSecondaryIndexes=[INDEX])
        asyncio.run(self._layer().update_thread(name, name="A thread", user_id="ada"))
        return name

    def turn(self, session: str, message: str, ask: Ask) -> None:
        asyncio.run(self._turn(session, message, ask))

    async def _turn(self, session: str, message: str, ask: Ask) -> None:
        layer = self._layer()
        init_http_context(thread_id=session)
        thread = await layer.get_thread(session)
        assert thread is not None
        shown = [step["output"] for step in thread["steps"]] + [message]
        await layer.create_step(_step(message, author="ada", type="user_message"))
        await layer.create_step(_step(ask(shown)))

    def history(self, session: str) -> list[str]:
        thread = asyncio.run(self._layer().get_thread(session))
        assert thread is not None
        return [step["output"] for step in thread["steps"]]

    def _layer(self) -> DynamoDBDataLayer:
        return DynamoDBDataLayer(TABLE, client=self._client, **self._settings)


def _step(content: str, **more: str) -> Any:
    return chainlit.Message(content, created_at=utc_now(), **more).to_dict()


if __name__ == "__main__":
    serve(ChainlitLayer)

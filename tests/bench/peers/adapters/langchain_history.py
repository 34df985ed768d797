"""langchain-community's DynamoDBChatMessageHistory: one item holds all messages, and every turn writes it anew."""

from __future__ import annotations

from typing import Any

import boto3
from langchain_community.chat_message_histories import DynamoDBChatMessageHistory
from langchain_core.messages import AIMessage, HumanMessage

from .protocol import Ask, serve
from .tables import make_table

TABLE = "SessionTable"


class LangChainHistory:
    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._aws = boto3.Session()

    def create(self, name: str) -> str:
        make_table(TABLE, "SessionId")
        return name

    def turn(self, session: str, message: str, ask: Ask) -> None:
        history = self._history(session)
        reply = ask([str(each.content) for each in history.messages] + [message])
        history.add_messages([HumanMessage(message), AIMessage(reply)])

    def history(self, session: str) -> list[str]:
        return [str(each.content) for each in self._history(session).messages]

    def _history(self, session: str) -> DynamoDBChatMessageHistory:
        return DynamoDBChatMessageHistory(TABLE, session, boto3_session=self._aws, **self._settings)


if __name__ == "__main__":
    serve(LangChainHistory)

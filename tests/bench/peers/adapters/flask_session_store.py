"""flask-session's DynamoDB interface: the session of a web application, one item, written whole after each request.

The application lives as long as its process, as it does when it is served; every turn is a request of its own.
"""

from __future__ import annotations

from typing import Any

import boto3
from flask import Flask, request, session
from flask_session import Session

from .protocol import Ask, serve

TABLE = "Sessions"


class FlaskSessionStore:
    def __init__(self, settings: dict[str, Any]) -> None:
        self._app = Flask(__name__)
        self._app.config.update(
            SESSION_TYPE="dynamodb",
            SESSION_DYNAMODB=boto3.resource("dynamodb"),
            SESSION_DYNAMODB_TABLE=TABLE,
            PROPAGATE_EXCEPTIONS=True,
            **settings,
        )
        Session(self._app)  # makes the table
        self._ask: Ask = lambda _: ""
        self._app.post("/sessions")(self._start)
        self._app.post("/turns")(self._answer)
        self._app.get("/turns")(lambda: session.get("messages", []))

    def _start(self) -> dict[str, str]:
        session["messages"] = []
        return {}

    def _answer(self) -> dict[str, str]:
        messages = session.get("messages", [])
        message = request.get_data(as_text=True)
        reply = self._ask([*messages, message])
        session["messages"] = [*messages, message, reply]
        return {"reply": reply}

    def create(self, name: str) -> str:
        client = self._app.test_client()
        client.post("/sessions")
        cookie = client.get_cookie("session")
        assert cookie is not None
        return cookie.value

    def turn(self, session: str, message: str, ask: Ask) -> None:
        self._ask = ask
        self._client(session).post("/turns", data=message)

    def history(self, session: str) -> list[str]:
        found: list[str] = self._client(session).get("/turns").json
        return found

    def _client(self, session: str) -> Any:
        client = self._app.test_client()
        client.set_cookie("session", session)
        return client


if __name__ == "__main__":
    serve(FlaskSessionStore)

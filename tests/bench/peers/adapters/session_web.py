"""dynamodb-session-web: the session of a web application, one item; a load writes to it too, to renew its idle time."""

from __future__ import annotations

from typing import Any

from dynamodb_session_web import SessionManager

from .protocol import Ask, serve
from .tables import make_table

TABLE = "app_session"


class SessionWeb:
    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings

    def create(self, name: str) -> str:
        make_table(TABLE, "id")
        return str(self._manager().create_and_save().session_id)

    def turn(self, session: str, message: str, ask: Ask) -> None:
        manager = self._manager()
        loaded = manager.load(session)
        messages = loaded.get("messages", [])
        loaded["messages"] = [*messages, message, ask([*messages, message])]
        manager.save(loaded)

    def history(self, session: str) -> list[str]:
        return list(self._manager().load(session).get("messages", []))

    def _manager(self) -> Any:
        return SessionManager(table_name=TABLE, **self._settings)


if __name__ == "__main__":
    serve(SessionWeb)

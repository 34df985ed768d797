"""Every route, asked by somebody whom it is for, with the request that the API's document gives as an example."""

from __future__ import annotations

from typing import Any

from tests.fakes import MODEL, OWNER
from tests.handlers.conftest import Answered, Call
from tests.handlers.test_anonymous import begin
from tests.handlers.test_authorisation import FUNCTION_OF, named, ref
from tests.handlers.test_session import create, take
from turnlog import runtime
from turnlog.domain.turns import Lease
from turnlog.entrypoints.http.openapi.operations import OPERATIONS, USER

Route = tuple[str, str]

SECRET = str(OPERATIONS["POST", "/sessions/{id}/claim"].example["secret"])


class Everybody:
    """A user's session and an anonymous one, a turn in each."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.own = str(create(call).body["session_id"])
        self.anonymous = str(begin(call, SECRET).body["session_id"])
        take(call, self.own, "hello")
        take(call, self.anonymous, "hello", secret=SECRET)

    def ask_when_ready(self, route: Route, **other: Any) -> Answered:
        """Does `ask` when there is something to do for the route: to stop a turn, one must run."""
        if not route[1].endswith("/cancel"):
            return self.ask(route, **other)
        store, now_ms = runtime.session_store(), runtime.now_ms()
        session = store.read(OWNER, self.own, now_ms, newest=1).session
        store.acquire(session, Lease(2, "token", now_ms + 60_000, b"k" * 16, b"f" * 16, now_ms), None)
        return self.ask(route, parameters={"id": self.own, "n": "2"}, **other)

    def ask(self, route: Route, *, key: str = "k", **other: Any) -> Answered:
        """The example of the route, by a caller whom it is for; `other` takes the place of what `call` would be given.

        `headers` come beside the key; `owner` or `secret` names another caller.
        """
        (method, path), operation = route, OPERATIONS[route]
        is_anonymous = USER not in operation.callers or path.endswith("/claim")
        sent: dict[str, Any] = {
            "parameters": {"id": self.anonymous if is_anonymous else self.own, "n": "1", "model_id": MODEL}
        }
        if not {"owner", "secret"} & set(other) and USER not in operation.callers:
            sent |= {"secret": SECRET} if operation.callers else {"owner": None}
        if operation.body and not {"body", "raw"} & set(other):
            sent["body"] = dict(operation.example)
        if operation.roles:
            sent["roles"] = " ".join(operation.roles)
            is_by_owner = "{owner}" in path
            sent["parameters"] = {"owner": named(OWNER.encode())} if is_by_owner else {"ref": ref(OWNER, self.own)}
        key_header = {"Idempotency-Key": key} if operation.key is not None and key else {}
        sent |= other
        sent["headers"] = key_header | dict(other.get("headers", {}))
        return self._call(FUNCTION_OF[route], method, path, **sent)

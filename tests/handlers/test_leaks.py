"""P6, ASVS 16.2.5 and 16.5.1: what callers say, who they are and what fails gets into no log and no error.

Every field of every route has a canary of its own; each request is made while nothing, the model, the store or a secret
fails, with a text of its own too.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.added_function import single_turn_paths
from tests.fakes import MODEL, OWNER, new_session
from tests.handlers.conftest import Answered, Backstage, Call
from tests.handlers.test_authorisation import FUNCTION_OF, SECRET, named, ref
from tests.media import base64_of, document, image, png, search_result, text_block, text_document, tool_result
from turnlog import runtime
from turnlog.domain.owners import anonymous_owner_of, delegated_owner
from turnlog.domain.sessions import new_session_id
from turnlog.errors import (
    AuditUnavailable,
    ContextTooLong,
    ItemVersionUnknown,
    ModelAccessDenied,
    ModelCreditUsedUp,
    ModelFailed,
    ModelNotServed,
    ModelProtocolError,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
    SecretUnavailable,
    StoreUnavailable,
    TurnsMissing,
)

CANARY = "Xanary"
"""In all that is sent but ids and secrets, whose forms are fixed: those are looked for as they are."""

Route = tuple[str, str]


@dataclass(frozen=True)
class Said:
    """A request with canaries; `secrets` are texts in it that hold none and must not come out either."""

    route: Route
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, list[str]] | None = None
    session_id: str = ""
    secret: str | None = None
    secrets: tuple[str, ...] = ()
    roles: str = ""
    user: str | None = None


def _texts(**more: Any) -> dict[str, Any]:
    return {"message": f"{CANARY} message"} | more


_KEY = {"Idempotency-Key": f"{CANARY}-key", "Prefer": f"wait=0; {CANARY}"}
_QUESTION = {"system": f"{CANARY} system", "stop_sequences": [f"{CANARY} stop"]}
_TOOLS = [
    "current_time",
    {
        "name": f"{CANARY}_tool",
        "description": f"{CANARY} description",
        "input_schema": {"type": "object", "properties": {f"{CANARY}": {"enum": [f"{CANARY} value"]}}},
    },
]
_USER = f"{CANARY}@example.com"
_NEW_SECRET = {"secret_sha256": hashlib.sha256(b"another").hexdigest()}

_PICTURE = png() + b"xanary in a picture"
_DATA = (base64_of(_PICTURE)[-24:],)
_CITED: dict[str, Any] = {"citations": {"enabled": True}}
_BLOCKS = [
    text_block(f"{CANARY} text"),
    image(_PICTURE),
    document(title=f"{CANARY} title", context=f"{CANARY} context", **_CITED),
    text_document(f"{CANARY} document", **_CITED),
    document(f"{CANARY} in bytes".encode(), "text/plain", **_CITED),
    {"type": "document", "source": {"type": "content", "content": [text_block(f"{CANARY} part")]}, **_CITED},
    search_result(source=f"{CANARY} source", title=f"{CANARY} title", content=[text_block(CANARY)], **_CITED),
]
_OUTPUT: dict[str, Any] = {
    "type": "object",
    "title": f"{CANARY} title",
    "properties": {f"{CANARY}_name": {"description": f"{CANARY} description", "enum": [f"{CANARY} value"]}},
    "required": [f"{CANARY}_name"],
}
_BAD_BLOCKS = {
    "a picture that lies": [image(_PICTURE, "image/gif")],
    "an unknown media type": [image(_PICTURE, f"image/{CANARY}")],
    "no base64": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": f"{CANARY}!"}}],
    "an address": [{"type": "image", "source": {"type": "url", "url": f"https://{CANARY}.example/"}}],
    "a file": [{"type": "document", "source": {"type": "file", "file_id": CANARY}}],
    "an unknown block": [{"type": CANARY, CANARY: CANARY}],
    "an unknown field of a block": [{**image(_PICTURE), CANARY: CANARY}],
    "a damaged PDF": [document(f"%PDF-1.7 {CANARY}".encode())],
    "a PDF that is none": [document(CANARY.encode())],
    "a document that is no text": [document(CANARY.encode() + b"\x81", "text/plain")],
    "a long title": [document(title=CANARY * 100)],
    "mixed citations": [text_document(f"{CANARY} document", **_CITED), text_document(CANARY)],
}
_RESULTS = [tool_result(f"toolu_{CANARY}", content=_BLOCKS), tool_result("b", content=CANARY, is_error=True)]

_PASSED = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": f"{CANARY} message"}]}
_NOTED = {f"{CANARY}-name": f"{CANARY} value"}

SAID = {
    "a question": Said(("POST", "/query"), _texts(**_QUESTION)),
    "a question with a schema": Said(("POST", "/query"), _texts(output=_OUTPUT)),
    "a question with a schema that cannot be met": Said(
        ("POST", "/query"), _texts(output={**_OUTPUT, "required": [f"{CANARY}_stranger"]})
    ),
    "a session with a schema": Said(("POST", "/sessions"), {"output": _OUTPUT}, _KEY),
    "a question with tools": Said(("POST", "/query"), _texts(tools=_TOOLS, tool_choice="auto")),
    "a question with a tool that there is not": Said(("POST", "/query"), _texts(tools=[f"{CANARY}_tool"])),
    "a session with tools": Said(("POST", "/sessions"), {"tools": _TOOLS, "tool_choice": "none"}, _KEY),
    "a question that goes on": Said(("POST", "/query"), _texts(continuable=True)),
    **{f"a message to {path}": Said(("POST", path), _texts()) for path in single_turn_paths().values()},
    "a new session": Said(
        ("POST", "/sessions"), {"system": f"{CANARY} system", "title": f"{CANARY} title", "metadata": _NOTED}, _KEY
    ),
    "a new session's stops": Said(("POST", "/sessions"), {"stop_sequences": [f"{CANARY} stop"]}, _KEY),
    "odd thinking": Said(("POST", "/query"), _texts(thinking={"type": CANARY})),
    "thinking with an odd field": Said(("POST", "/query"), _texts(thinking={"type": "adaptive", CANARY: CANARY})),
    "an odd effort": Said(("POST", "/query"), _texts(effort=CANARY)),
    "an odd lifetime": Said(("POST", "/sessions"), {"cache": CANARY}),
    "a forged continuation": Said(("POST", "/sessions"), {"continuation": f"{CANARY}{'A' * 200}"}),
    "a list": Said(("GET", "/sessions")),
    "a forged cursor": Said(("GET", "/sessions"), query={"cursor": [CANARY]}),
    "an unknown parameter": Said(("GET", "/sessions"), query={CANARY: [CANARY]}),
    "an anonymous session": Said(
        ("POST", "/anonymous/sessions"),
        {"title": f"{CANARY} title", "metadata": _NOTED, **_NEW_SECRET},
        secrets=(_NEW_SECRET["secret_sha256"],),
    ),
    "everything": Said(("GET", "/me/export")),
    "an erasure": Said(("DELETE", "/me")),
    "a look": Said(("GET", "/sessions/{id}")),
    "a look by a secret": Said(("GET", "/sessions/{id}"), secret=SECRET),
    "a malformed id": Said(("GET", "/sessions/{id}"), session_id=f"{CANARY}/../x"),
    "an unknown id": Said(("GET", "/sessions/{id}"), session_id=new_session_id()),
    "another title": Said(("PATCH", "/sessions/{id}"), {"title": f"{CANARY} title"}),
    "other metadata": Said(("PATCH", "/sessions/{id}"), {"metadata": _NOTED}),
    "metadata that is refused": Said(("PATCH", "/sessions/{id}"), {"metadata": {**_NOTED, f"{CANARY} name": CANARY}}),
    "metadata of other types": Said(("PATCH", "/sessions/{id}"), {"metadata": {CANARY: [CANARY]}}),
    "a delete": Said(("DELETE", "/sessions/{id}")),
    "an export": Said(("GET", "/sessions/{id}/export")),
    "a fork": Said(("POST", "/sessions/{id}/fork"), {"turn": 1}, _KEY),
    "a rotation": Said(
        ("POST", "/sessions/{id}/rotate"), _NEW_SECRET, _KEY, secret=SECRET, secrets=(_NEW_SECRET["secret_sha256"],)
    ),
    "a claim": Said(("POST", "/sessions/{id}/claim"), {"secret": SECRET}, _KEY),
    "a turn": Said(("POST", "/sessions/{id}/turns"), _texts(), _KEY),
    "a turn with instructions": Said(("POST", "/sessions/{id}/turns"), _texts(system=f"{CANARY} system"), _KEY),
    "a turn by a secret": Said(("POST", "/sessions/{id}/turns"), _texts(), _KEY, secret=SECRET),
    **{
        f"a streamed message to {path}": Said(("POST", path), _texts())
        for path in ("/query/stream", "/analyze/stream", "/summarize/stream")
    },
    "a streamed question": Said(("POST", "/query/stream"), _texts(**_QUESTION)),
    "a streamed turn": Said(("POST", "/sessions/{id}/turns/stream"), _texts(system=f"{CANARY} system"), _KEY),
    "a streamed turn by a secret": Said(("POST", "/sessions/{id}/turns/stream"), _texts(), _KEY, secret=SECRET),
    "blocks in a streamed turn": Said(
        ("POST", "/sessions/{id}/turns/stream"), {"message": _BLOCKS}, _KEY, secrets=_DATA
    ),
    "a message to pass on": Said(("POST", "/messages"), _PASSED, _KEY),
    "a message to pass on with an odd field": Said(("POST", "/messages"), _PASSED | {CANARY: CANARY}),
    "a message to pass on to another model": Said(("POST", "/messages"), _PASSED | {"model": f"{CANARY}-model"}),
    "a message to pass on with what is denied": Said(("POST", "/messages"), _PASSED | {"container": CANARY}),
    "a turn by the Messages API": Said(("POST", "/messages"), _PASSED, _KEY | {"Turnlog-Session": "new"}),
    "a streamed turn by the Messages API": Said(
        ("POST", "/messages"), _PASSED | {"stream": True}, _KEY | {"Turnlog-Session": "new"}
    ),
    "a turn by the Messages API of a session that is none": Said(
        ("POST", "/messages"), _PASSED, _KEY | {"Turnlog-Session": f"{CANARY}/../x"}
    ),
    "a message to count": Said(("POST", "/messages/count_tokens"), _PASSED),
    "a list of turns": Said(("GET", "/sessions/{id}/turns")),
    "a stored turn": Said(("GET", "/sessions/{id}/turns/{n}")),
    "a list of models": Said(("GET", "/models"), query={"after_id": [CANARY]}),
    "an unknown model's page": Said(("GET", "/models/{model_id}"), session_id=f"{CANARY}-model"),
    "a cancelled turn": Said(("POST", "/sessions/{id}/turns/{n}/cancel")),
    "a look at the service": Said(("GET", "/health"), query={CANARY: [CANARY]}),
    "a look at the document": Said(("GET", "/openapi.json"), query={CANARY: [CANARY]}),
    "an unknown field": Said(("POST", "/query"), _texts(**{f"{CANARY}field": CANARY})),
    "an unknown model": Said(("POST", "/query"), _texts(model=f"{CANARY}-model")),
    "a wrong type": Said(("POST", "/query"), {"message": {CANARY: CANARY}}),
    "a control character": Said(("POST", "/query"), {"message": f"{CANARY}\x00"}),
    **{name: Said(("POST", "/query"), {"message": message}, secrets=_DATA) for name, message in _BAD_BLOCKS.items()},
    "blocks in a question": Said(("POST", "/query"), {"message": _BLOCKS}, secrets=_DATA),
    "blocks in a turn": Said(("POST", "/sessions/{id}/turns"), {"message": _BLOCKS}, _KEY, secrets=_DATA),
    "results of tools": Said(("POST", "/sessions/{id}/turns"), {"message": _RESULTS}, _KEY, secrets=_DATA),
    "a wrong result of a tool": Said(
        ("POST", "/sessions/{id}/turns"), {"message": [*_RESULTS, *_RESULTS]}, _KEY, secrets=_DATA
    ),
    "an administrator's list": Said(("GET", "/admin/users/{owner}/sessions"), roles="admin"),
    "the end of all": Said(("POST", "/admin/users/{owner}/terminate"), roles="admin"),
    "an end": Said(("POST", "/admin/sessions/{ref}/terminate"), roles="admin"),
    "an administrator's look": Said(
        ("POST", "/admin/sessions/{ref}/content"), {"reason": f"{CANARY} in a reason"}, roles="admin admin:content"
    ),
    "a look without the role": Said(("POST", "/admin/sessions/{ref}/content"), {"reason": f"{CANARY} in a reason"}),
    "a person's new session": Said(("POST", "/sessions"), {"title": f"{CANARY} title"}, _KEY, user=_USER),
    "a person's turn": Said(("POST", "/sessions/{id}/turns"), _texts(), _KEY, user=_USER),
    "a person's question": Said(("POST", "/query"), _texts(), user=_USER),
    "a person's list": Said(("GET", "/sessions"), user=_USER),
    "everything of a person": Said(("GET", "/me/export"), user=_USER),
    "a person's erasure": Said(("DELETE", "/me"), user=_USER),
    "a claim for a person": Said(("POST", "/sessions/{id}/claim"), {"secret": SECRET}, _KEY, user=_USER),
    "an unknown id of a person": Said(("GET", "/sessions/{id}"), session_id=new_session_id(), user=_USER),
    "a person who is none": Said(("GET", "/sessions"), user=f"{CANARY} with a space"),
    "a person with a name that is too long": Said(("GET", "/sessions"), user=_USER * 10),
    "a person named without the role": Said(("GET", "/sessions"), user=_USER, roles="admin"),
    "a person named beside a secret": Said(("GET", "/sessions/{id}"), user=_USER, secret=SECRET),
    "a person named by an administrator": Said(
        ("GET", "/admin/users/{owner}/sessions"), user=_USER, roles="admin delegate"
    ),
    "a person named by a stranger": Said(
        ("POST", "/anonymous/sessions"), _NEW_SECRET, user=_USER, secrets=(_NEW_SECRET["secret_sha256"],)
    ),
    "another media type": Said(("POST", "/query"), _texts(), {"Content-Type": f"text/{CANARY}"}),
}

MODEL_ERRORS = (
    ModelUnavailable(1),
    ModelAccessDenied(),
    ModelCreditUsedUp(),
    ModelNotServed("claude-sonnet-5-5"),
    ContextTooLong(),
    ModelRejected(),
    ModelTimeout(),
    ModelFailed(),
    ModelProtocolError(),
)


def _raising(error: Exception) -> Callable[..., Any]:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    return fails


class _FailingStore:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return _raising(self._error)


@dataclass
class Fault:
    """A failure: the function of `runtime` that is replaced, and what it does instead."""

    name: str
    error: Exception
    replaced: Callable[[Exception], Any]

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runtime, self.name, self.replaced(self.error))


class _FailingModel:
    def __init__(self, error: Exception) -> None:
        self.reply = _raising(error)


def _faults() -> Iterator[tuple[str, Fault]]:
    error: Exception
    for error in (*MODEL_ERRORS, RuntimeError(f"{CANARY} in a model's error")):
        yield f"model: {type(error).__name__}", Fault("chat_model", error, lambda error: lambda: _FailingModel(error))
    for error in (StoreUnavailable(), TurnsMissing(), ItemVersionUnknown(), ValueError(f"{CANARY} in a store's error")):
        yield f"store: {type(error).__name__}", Fault("session_store", error, lambda e: lambda: _FailingStore(e))
    for error in (SecretUnavailable(), KeyError(f"{CANARY} in a secret's error")):
        yield f"secret: {type(error).__name__}", Fault("server_key", error, _raising)
    for error in (AuditUnavailable(), RuntimeError(f"{CANARY} in the trail's error")):
        yield f"audit: {type(error).__name__}", Fault("audit_trail", error, _raising)


FAULTS = dict(_faults())


@pytest.fixture
def everything_logged(logged: io.StringIO) -> Iterator[Callable[[], str]]:
    """All lines of all loggers, at every level."""
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield lambda: logged.getvalue() + lines.getvalue()
    root.removeHandler(handler)
    root.setLevel(level)


def _begun(backstage: Backstage, whose: str) -> str:
    return backstage.store.create(new_session(whose), f"{CANARY} title", metadata=tuple(_NOTED.items())).id


def _send(call: Call, backstage: Backstage, said: Said) -> tuple[Answered, str]:
    """The answer, and the id of the session that it was about."""
    owner = anonymous_owner_of(said.secret) if said.secret else f"{OWNER}-{CANARY}"
    is_a_person_s = said.user == _USER and not said.secret
    whose = delegated_owner(owner, _USER) if is_a_person_s else owner
    session_id = said.session_id or _begun(backstage, whose)
    method, path = said.route
    answered = call(
        FUNCTION_OF[said.route],
        method,
        path,
        said.body,
        owner=owner,
        secret=said.secret,
        headers=said.headers,
        query=said.query,
        roles=said.roles,
        user=said.user,
        parameters={"id": session_id, "n": "1", "owner": named(owner.encode()), "ref": ref(owner, session_id)}
        | {"model_id": session_id},
        source="198.51.100.77",
    )
    return answered, session_id


def _forms(text: str) -> list[str]:
    """The text itself, and the forms in which it is often logged."""
    encoded = text.encode()
    return [text, base64.b64encode(encoded).decode().rstrip("="), encoded.hex(), json.dumps(text)[1:-1]]


def _trail(backstage: Backstage) -> str:
    """All that is audited but the reason that an administrator gives, which is kept as it was given."""
    kept = [event | {"reason": ""} if event["action"] == "admin content" else event for event in backstage.audit.events]
    return json.dumps(kept)


def _expect_silence(said: Said, session_id: str, answered: Answered, log: str) -> None:
    hidden = [CANARY, session_id, SECRET, "198.51.100.77", OWNER, *said.secrets]
    for text in (form for each in hidden for form in _forms(each)):
        assert text not in log
    errors = [answered.raw] if answered.status >= 400 else _error_events(answered.body)
    for raw in errors:
        for text in (CANARY, SECRET, session_id, *said.secrets):
            assert text not in raw
            assert text not in json.dumps(dict(answered.headers))


def _error_events(body: Any) -> list[str]:
    """The errors in a stream."""
    events = body if isinstance(body, list) else []
    return [json.dumps(event, ensure_ascii=False) for event in events if event["type"] == "error"]


def test_every_route_is_said_something_on() -> None:
    assert {said.route for said in SAID.values()} == FUNCTION_OF.keys()


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_nothing_that_is_said_is_logged_or_in_an_error(
    said: Said, call: Call, backstage: Backstage, everything_logged: Callable[[], str]
) -> None:
    answered, session_id = _send(call, backstage, said)
    assert '"message":"request"' in everything_logged()
    _expect_silence(said, session_id, answered, everything_logged() + _trail(backstage))


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_nothing_that_fails_is_logged_or_in_an_error(
    said: Said,
    fault: Fault,
    call: Call,
    backstage: Backstage,
    everything_logged: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault.plant(monkeypatch)
    answered, session_id = _send(call, backstage, said)
    assert answered.status < 600
    _expect_silence(said, session_id, answered, everything_logged() + _trail(backstage))

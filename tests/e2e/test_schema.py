"""The running service against its own document: no answer is a 5xx or missing there, whatever is sent.

`make fuzz` asks much more than `make test`.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from tests import documented
from tests.e2e.stack import Stack
from turnlog.entrypoints.http.openapi.operations import OPERATIONS, USER, Operation

EXAMPLES = int(os.environ.get("TURNLOG_FUZZ_EXAMPLES", "8"))
"""The number of requests of each kind to each route."""

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.missing_required_header,
]
IDS = st.from_regex(r"ses_[A-Za-z0-9_-]{22}", fullmatch=True, alphabet=st.characters(codec="ascii"))

NAMES = {"id", "owner", "ref", "model_id"}
"""The parameters of a path that name a session, an owner or a model."""

Route = tuple[str, str]


class Service:
    """The stack and a caller with a session of every kind."""

    def __init__(self, stack: Stack) -> None:
        self.url, self._token = stack.api_url, stack.token_of(str(stack.run["user"]), "delegate")
        self._admin = stack.token_of("root", "admin admin:content")
        owner = f"{stack.run['issuer']}|{stack.run['user']}"
        self._owner = base64.urlsafe_b64encode(owner.encode()).rstrip(b"=").decode()
        self._requests = requests.Session()
        self._requests.trust_env = False  # no proxy stands before this machine
        self.document = self._send("GET", "/openapi.json").json()
        config = SchemathesisConfig.from_dict({"base-url": self.url})
        self.schema = schemathesis.openapi.from_dict(self.document, config=config)
        self._sessions: dict[bool, str] = {}
        self._secret = secrets.token_urlsafe(32)

    def close(self) -> None:
        self._requests.close()

    def session(self, operation: Operation) -> str:
        """The id of an existing session, of a kind that the route takes."""
        is_anonymous = USER not in operation.callers
        session_id = self._sessions.get(is_anonymous, "")
        if not session_id or self._send("GET", f"/sessions/{session_id}", is_anonymous).status_code == 404:
            session_id = self._anonymous() if is_anonymous else self._own()
            self._sessions[is_anonymous] = session_id
            turn = {"message": "My name is Ada.", "turn": 1}
            self._send("POST", f"/sessions/{session_id}/turns", is_anonymous, turn)
        return session_id

    def named(self, name: str, operation: Operation) -> str:
        """The value of a path parameter: the name of something that exists."""
        if name == "model_id":
            return str(self._send("GET", "/models").json()["first_id"])
        session_id = self.session(operation)
        if name == "ref":
            headers = {"Authorization": f"Bearer {self._admin}"}
            listed = self._requests.get(f"{self.url}/admin/users/{self._owner}/sessions", headers=headers, timeout=60)
            return str(listed.json()["items"][0]["ref"])
        return {"id": session_id, "owner": self._owner}[name]

    def authorization(self, operation: Operation) -> dict[str, str]:
        if not operation.callers:
            return {}
        if operation.roles:
            return {"Authorization": f"Bearer {self._admin}"}
        return {"Authorization": f"Bearer {self._token}" if USER in operation.callers else f"Session {self._secret}"}

    def require_described(self, case: schemathesis.Case[Any], operation: Operation) -> None:
        headers = self.authorization(operation)
        response = case.call(session=self._requests, headers=headers)
        case.validate_response(response, checks=CHECKS, headers=headers)

    def send_raw(self, route: Route, raw: bytes) -> requests.Response:
        operation = OPERATIONS[route]
        path = route[1].format(**{name: self.named(name, operation) for name in NAMES if f"{{{name}}}" in route[1]})
        headers = {"Content-Type": "application/json", "Idempotency-Key": secrets.token_hex(8)}
        headers |= self.authorization(operation)
        return self._requests.request(route[0], self.url + path, data=raw, headers=headers, timeout=60)

    def _own(self) -> str:
        return str(self._send("POST", "/sessions", body={}).json()["session_id"])

    def _anonymous(self) -> str:
        self._secret = secrets.token_urlsafe(32)
        body = {"secret_sha256": sha256(self._secret.encode()).hexdigest()}
        return str(self._send("POST", "/anonymous/sessions", body=body).json()["session_id"])

    def _send(self, method: str, path: str, is_anonymous: bool = False, body: Any = None) -> requests.Response:
        known = f"Session {self._secret}" if is_anonymous else f"Bearer {self._token}"
        headers = {"Authorization": known, "Idempotency-Key": secrets.token_hex(8)}
        return self._requests.request(method, self.url + path, json=body, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def service(stack: Stack) -> Iterator[Service]:
    service = Service(stack)
    yield service
    service.close()


MODES = [
    (route, mode)
    for route, each in OPERATIONS.items()
    for mode in GenerationMode
    if mode.is_positive or each.body or each.key is not None or each.asks or "{" in route[1]  # something to get wrong
]
often = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=EXAMPLES < 100,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize(("route", "mode"), MODES, ids=lambda each: getattr(each, "value", None) or " ".join(each))
def test_every_answer_is_one_that_the_document_describes(service: Service, route: Route, mode: GenerationMode) -> None:
    operation = OPERATIONS[route]
    method, path = route
    cases = service.schema[path][method].as_strategy(generation_mode=mode)
    named = {each["name"].lower() for each in documented.operation(*route)["parameters"]}

    @often
    @given(case=cases, stranger=st.none() | IDS)
    def ask(case: schemathesis.Case[Any], stranger: str | None) -> None:
        for name in NAMES & set(case.path_parameters):
            # Other forms than an id's are for the handler tests: here the gateway would see another path.
            case.path_parameters[name] = stranger or service.named(name, operation)
        for name in [name for name in case.headers if name.lower() not in named]:
            del case.headers[name]  # some are for the local stack's own guard, such as Origin
        if "id" in case.path_parameters:
            case.headers.pop("Turnlog-User", None)  # the session is the caller's own
        service.require_described(case, operation)

    ask()


@pytest.mark.parametrize("route", [route for route, each in OPERATIONS.items() if each.body], ids=" ".join)
def test_any_bytes_at_all_are_refused_as_the_document_says(service: Service, route: Route) -> None:
    described = service.document["paths"][route[1]][route[0].lower()]["responses"]

    @often
    @given(raw=st.binary() | st.text().map(str.encode))
    def send(raw: bytes) -> None:
        response = service.send_raw(route, raw)
        assert 400 <= response.status_code < 500
        assert str(response.status_code) in described
        assert response.json()["code"] not in ("internal_error", "bad_request")

    send()

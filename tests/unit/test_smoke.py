"""The smoke test passes where a deployment is right, and each of its checks fails where it is not."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from local.loopback import GuardedHandler, LoopbackServer
from tests.smoke import Target, run
from tests.smoke.account import Account
from tests.smoke.api import Api
from tests.smoke.conversation import Conversation
from tests.smoke.documents import Documents
from tests.smoke.hearing import Event, Heard, events_of
from tests.smoke.outcome import LeftOut, Unexpected
from tests.smoke.streams import Streams
from tests.smoke.throttle import MOST_REQUESTS, throttle
from tests.smoke.transport import transport
from turnlog.domain.base64url import encode
from turnlog.domain.owners import owner_hash

PAGE = "https://app.example"
TOKEN = f"e30.{encode(json.dumps({'iss': 'https://issuer.example/', 'sub': 'ada'}).encode())}.AAAA"
FOLDER = owner_hash("https://issuer.example/|ada")
PROBLEM = {"Content-Type": "application/problem+json; charset=utf-8"}
REPLY = {"text": "ok", "model": "claude-sonnet-5-5", "cost_usd": "0.0001"}


@dataclass(frozen=True)
class Response:
    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


def problem(status: int, code: str) -> Response:
    return Response(status, {"code": code, "detail": f"It is {code}.", "instance": "urn:req:1"}, PROBLEM)


UNAUTHORIZED = Response(
    401,
    {
        "code": "unauthorized",
        "error": {"type": "authentication_error", "message": "auth_token, ANTHROPIC_AUTH_TOKEN; no x-api-key"},
    },
    {**PROBLEM, "WWW-Authenticate": "Bearer, Session", "X-Should-Retry": "false"},
)


def stream_of(text: str, **done: Any) -> Response:
    """A stream of one message; its body is a list of events."""
    delta = {"type": "text_delta", "text": text}
    return Response(
        200,
        [
            {"type": "turnlog.turn"},
            {"type": "message_start"},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "message_stop"},
            {"type": "turnlog.done", **done},
        ],
        {"Content-Type": "text/event-stream"},
    )


SAME_FOR_STRANGERS = {
    "GET /health": Response(200, {"status": "ok", "version": "0.1.0"}),
    "GET /no-such-route": problem(404, "route_not_found"),
    "PUT /sessions": problem(404, "route_not_found"),
    "POST /anonymous/sessions": problem(400, "field_missing"),
}
SAME_FOR_ALL = {
    "POST /query": Response(200, REPLY),
    "POST /query/stream": stream_of("one two", cost_usd="0.0003"),
    "GET /v1/models": Response(200, {"data": [{"id": "claude-sonnet-5-5"}]}),
    "POST /v1/messages/count_tokens": Response(200, {"input_tokens": 12}),
}
Spoil = Callable[[Response], Response]


class Deployment:
    """An API that answers as it should, but on one route: `spoil` changes its answers after `after`, up to `until`."""

    def __init__(self, route: str = "", spoil: Spoil = lambda answer: answer, after: int = 0, until: int = 999) -> None:
        self.sessions: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[str] = []
        self._by_key: dict[str, str] = {}
        self._route = route
        self._spoil = spoil
        self._after = after
        self._until = until

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Response:
        headers = {name.lower(): value for name, value in headers.items()}
        route = f"{method} {re.sub(r'ses_[^/]+', '{id}', path)}"
        self.asked.append(route)
        right = self._right(route, path, headers)
        is_spoilt = route == self._route and self._after < self.asked.count(route) <= self._until
        return self._spoil(right) if is_spoilt else right

    def _right(self, route: str, path: str, headers: Mapping[str, str]) -> Response:
        session_id = next(iter(re.findall(r"ses_[^/]+", path)), "")
        key = headers.get("idempotency-key", "")
        if route == "OPTIONS /sessions":
            allowed = {"Origin": PAGE, "Methods": "GET,POST", "Headers": "Authorization,Content-Type,Idempotency-Key"}
            return Response(204, None, {f"Access-Control-Allow-{name}": value for name, value in allowed.items()})
        if route in SAME_FOR_STRANGERS:
            return SAME_FOR_STRANGERS[route]
        if headers.get("authorization") != f"Bearer {TOKEN}":
            return UNAUTHORIZED
        if route in SAME_FOR_ALL:
            return SAME_FOR_ALL[route]
        if route == "POST /messages":
            return self._message(headers.get("turnlog-session", ""), key)
        if route == "POST /sessions":
            made = self._by_key.setdefault(key, f"ses_{secrets.token_urlsafe(16)}")
            self.sessions.setdefault(made, [])
            return Response(201, {"session_id": made, "expires_at": "2026-11-29T12:00:00Z"})
        if session_id not in self.sessions:
            return problem(404, "session_not_found")
        return self._of_session(route, session_id, key)

    def _turn(self, session_id: str, key: str, text: str) -> tuple[dict[str, Any], bool]:
        """The turn of that key, and True if it was there before."""
        turns = self.sessions[session_id]
        found = next((each for each in turns if each["key"] == key), None)
        if found is None:
            turns.append({**REPLY, "text": text, "turn": len(turns) + 1, "key": key})
        return found or turns[-1], found is not None

    def _message(self, session_id: str, key: str) -> Response:
        message = {"id": "msg_1", "type": "message", "content": [{"type": "text", "text": "at the door"}]}
        if not session_id:
            return Response(200, message)
        turn, replayed = self._turn(session_id, key, "at the door")
        headers = {"Turnlog-Turn": str(turn["turn"])} | ({"Idempotent-Replayed": "true"} if replayed else {})
        return Response(200, message | {"turnlog": {"cost_usd": "0.0001"}}, headers)

    def _of_session(self, route: str, session_id: str, key: str) -> Response:
        turns = self.sessions[session_id]
        if route == "POST /sessions/{id}/turns":
            turn, replayed = self._turn(session_id, key, "ok")
            return Response(200, turn, {"Idempotent-Replayed": "true"} if replayed else {})
        if route == "POST /sessions/{id}/turns/stream":
            turn, replayed = self._turn(session_id, key, "as it comes")
            return stream_of(turn["text"], turn=turn["turn"], replayed=replayed, cost_usd="0.0001")
        if route == "GET /sessions/{id}/export":
            return Response(200, {"format": "turnlog-session-1", "turns": turns, "next": None})
        assert route == "DELETE /sessions/{id}"
        del self.sessions[session_id]
        return Response(204)


@dataclass
class Served:
    """A deployment that is served, and how a run of the smoke test ended."""

    deployment: Deployment
    target: Target
    lines: list[str] = field(default_factory=list)

    def run(self) -> bool:
        return run(self.target, self.lines.append)

    def line(self, check: str) -> str:
        """The line of a check, without its name."""
        return next(line for line in self.lines if line.startswith(f"{check} ")).removeprefix(check).strip()


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    servers: list[LoopbackServer] = []

    def start(deployment: Deployment | None = None, token: str = TOKEN, origin: str = PAGE) -> Served:
        served = deployment or Deployment()

        class Handler(GuardedHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = served.answer(self.command, self.path, dict(self.headers.items()))
                content = b"" if answer.body is None else json.dumps(answer.body).encode()
                if isinstance(answer.body, list):
                    told = [f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in answer.body]
                    content = "".join(told).encode()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.status != 204:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_OPTIONS = answer  # noqa: N815 (it lets pages in, unlike the servers of this machine)

        server = LoopbackServer(0, Handler, "deployment")
        server.start()
        servers.append(server)
        return Served(served, Target(server.url, token, origin, state=tmp_path))

    yield start
    for server in servers:
        server.stop()


def test_a_deployment_that_is_right_passes_and_keeps_nothing(serve: Serve) -> None:
    served = serve()
    assert served.run()
    outcomes = {line[:15].strip(): line[17:25].strip() for line in served.lines}
    left_out = {"upload, summary", "TLS", "throttle"}
    assert {name for name, outcome in outcomes.items() if outcome == "left out"} == left_out
    assert {outcome for name, outcome in outcomes.items() if name not in left_out} == {"ok"}
    assert "$0.0007" in served.line("in all")
    assert served.deployment.sessions == {}


def with_status(status: int, code: str = "") -> Spoil:
    return lambda _: problem(status, code)


def without(*headers: str) -> Spoil:
    return lambda answer: replace(answer, headers={k: v for k, v in answer.headers.items() if k not in headers})


def with_header(name: str, value: str) -> Spoil:
    return lambda answer: replace(answer, headers={**answer.headers, name: value})


def with_body(**fields: Any) -> Spoil:
    return lambda answer: replace(answer, body={**answer.body, **fields})


OF_CLAUDE = Response(401, {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}})
AT_DOOR = Response(404, {"error": {"message": "no such model", "details": {"error_code": "model_not_found"}}})


def without_event(kind: str) -> Spoil:
    return lambda answer: replace(answer, body=[each for each in answer.body if each["type"] != kind])


SPOILT = [
    ("health", "GET /health", with_status(500, "internal_error"), 0, "500 internal_error (It is internal_error.), not"),
    ("health", "GET /health", lambda _: Response(200, "ok"), 0, "without the field version"),
    ("preflight", "OPTIONS /sessions", with_status(500), 0, "not 200 or 204"),
    ("preflight", "OPTIONS /sessions", with_header("Access-Control-Allow-Origin", "*"), 0, "nobody said so"),
    ("preflight", "OPTIONS /sessions", without("Access-Control-Allow-Origin"), 0, "is CorsOrigin right?"),
    ("preflight", "OPTIONS /sessions", with_header("Access-Control-Allow-Methods", "GET"), 0, "not its post"),
    ("preflight", "OPTIONS /sessions", without("Access-Control-Allow-Headers"), 0, "idempotency-key"),
    ("no token", "POST /query", lambda _: Response(200, REPLY), 0, "200, not 401"),
    ("no token", "POST /query", lambda _: Response(200, REPLY), 1, "200, not 401"),
    ("no token", "POST /query", without("WWW-Authenticate"), 0, "WWW-Authenticate missing"),
    ("no token", "POST /query", with_header("Content-Type", "text/html"), 0, "as text/html"),
    ("unknown route", "GET /no-such-route", with_status(403), 0, "does the URL end with /v1?"),
    ("unknown method", "PUT /sessions", lambda _: Response(200), 0, "200, not 404"),
    ("query", "POST /query", with_status(503, "dependency_unavailable"), 2, "is the key for Claude put in"),
    ("query", "POST /query", with_status(503, "model_unavailable"), 2, "Claude refuses the key"),
    ("query", "POST /query", with_status(503, "model_credit_used_up"), 2, "has no credit"),
    ("query", "POST /query", with_status(502, "model_retired"), 2, "ClaudeModels"),
    ("query", "POST /query", with_status(401, "unauthorized"), 2, "TokenIssuer"),
    ("query", "POST /query", with_body(text=""), 2, "without the field text"),
    ("session", "POST /sessions", with_status(429, "allowance_used_up"), 0, "used up a quota"),
    ("session", "POST /sessions", lambda answer: replace(answer, status=200), 0, "200, not 201"),
    ("turn", "POST /sessions/{id}/turns", with_status(504, "gateway_timeout"), 0, "longer than 29 s"),
    ("turn", "POST /sessions/{id}/turns", with_body(turn=2), 0, "with turn 2, not 1"),
    ("turn", "POST /sessions/{id}/turns", with_body(text=None), 0, "without the field text"),
    ("replay", "POST /sessions/{id}/turns", with_status(503, "dependency_unavailable"), 1, "not 200"),
    ("replay", "POST /sessions/{id}/turns", with_body(text="another"), 1, "other bytes"),
    ("replay", "POST /sessions/{id}/turns", without("Idempotent-Replayed"), 1, "Idempotent-Replayed missing"),
    ("stream", "POST /query/stream", with_status(502, "bad_gateway"), 0, "502 bad_gateway"),
    ("stream", "POST /query/stream", with_header("Content-Type", "text/html"), 0, "as text/html, not as text/event-st"),
    ("stream", "POST /query/stream", without_event("turnlog.done"), 0, "to message_stop, not"),
    ("streamed turn", "POST /sessions/{id}/turns/stream", with_status(503, "model_unavailable"), 0, "refuses the key"),
    ("its replay", "POST /sessions/{id}/turns/stream", lambda _: stream_of("another", replayed=True), 1, "another rep"),
    ("its replay", "POST /sessions/{id}/turns/stream", lambda _: stream_of("as it comes"), 1, "was it paid again"),
    ("message", "POST /messages", with_body(type="error"), 0, "without a message"),
    ("message", "POST /v1/messages/count_tokens", with_status(404, "route_not_found"), 0, "404 route_not_found"),
    ("message", "POST /messages", lambda _: OF_CLAUDE, 0, "401 (invalid x-api-key), not 200: Claude itself answers so"),
    ("message", "POST /messages", lambda _: AT_DOOR, 0, "404 model_not_found (no such model), not 200"),
    ("message", "GET /v1/models", with_body(data=[]), 0, "no model is on offer"),
    ("its turn", "POST /messages", without("Turnlog-Turn"), 1, "Turnlog-Turn missing, not 3"),
    ("its turn", "POST /messages", without("Idempotent-Replayed"), 2, "paid again"),
    ("x-api-key", "POST /messages", lambda _: problem(401, "unauthorized"), 3, "does not name ANTHROPIC_AUTH_TOKEN"),
    ("x-api-key", "POST /messages", without("X-Should-Retry"), 3, "clients try it again"),
    ("x-api-key", "POST /messages", lambda _: Response(200, {}), 3, "200, not 401"),
    ("unknown session", "GET /sessions/{id}", with_status(403, "forbidden"), 0, "403 forbidden"),
    ("unknown session", "GET /sessions/{id}", with_status(404, "route_not_found"), 0, "not 404 session_not_found"),
    ("export", "GET /sessions/{id}/export", with_status(500, "session_corrupt"), 0, "500 session_corrupt"),
    ("export", "GET /sessions/{id}/export", with_body(turns=[]), 0, "0 turns"),
    ("export", "GET /sessions/{id}/export", with_body(turns=[{"text": "lost"}]), 0, "not the 3"),
    ("delete", "DELETE /sessions/{id}", with_status(500, "internal_error"), 0, "the log has it under urn:req:1"),
    ("delete", "GET /sessions/{id}", lambda _: Response(200, {}), 1, "200, not 404"),
]


@pytest.mark.parametrize(("check", "route", "spoil", "after", "words"), SPOILT, ids=lambda value: str(value)[:25])
def test_a_check_fails_where_a_deployment_misbehaves(
    serve: Serve, check: str, route: str, spoil: Spoil, after: int, words: str
) -> None:
    served = serve(Deployment(route, spoil, after))
    assert not served.run()
    assert served.line(check).startswith("FAILED")
    assert words in served.line(check)
    assert "FAILED" in served.line("in all")
    assert len(served.lines) == 23  # it goes on


def test_a_stranger_whose_origin_is_sent_back_fails_the_preflight(serve: Serve) -> None:
    served = serve(origin="")
    reflected = with_header("Access-Control-Allow-Origin", served.target.own_origin)
    served.deployment._route, served.deployment._spoil = "OPTIONS /sessions", reflected
    assert not served.run()
    assert "lets in http://127.0.0.1" in served.line("preflight")


def test_a_session_is_deleted_after_a_failure(serve: Serve) -> None:
    served = serve(Deployment("POST /sessions/{id}/turns", with_status(502, "model_failed")))
    assert not served.run()
    assert served.line("replay").startswith("left out")
    assert served.line("delete").startswith("ok")
    assert served.deployment.sessions == {}


def test_a_session_whose_creation_was_not_answered_is_deleted(serve: Serve) -> None:
    served = serve(Deployment("POST /sessions", with_status(504, "gateway_timeout"), until=1))
    assert not served.run()
    assert "1 session and" in served.line("clean-up")
    assert served.deployment.sessions == {}


def test_a_session_whose_id_is_never_known_is_told(serve: Serve) -> None:
    served = serve(Deployment("POST /sessions", with_body(session_id=5)))
    assert not served.run()
    assert served.line("clean-up").startswith("FAILED")


def test_a_session_that_cannot_be_deleted_is_told(serve: Serve) -> None:
    served = serve(Deployment("DELETE /sessions/{id}", with_status(500, "internal_error")))
    assert not served.run()
    assert served.line("clean-up").startswith("FAILED")


def test_without_a_token_only_public_routes_are_asked(serve: Serve) -> None:
    served = serve(token="")
    assert served.run()
    assert "TOKEN=" in served.line("query")
    assert set(served.deployment.asked) == {
        *("GET /health", "OPTIONS /sessions", "POST /query", "GET /no-such-route", "PUT /sessions"),
        "POST /anonymous/sessions",
    }


def test_where_nothing_listens_every_check_says_so(serve: Serve) -> None:
    served = Served(Deployment(), Target("http://127.0.0.1:9/v1", TOKEN))
    assert not served.run()
    assert "is the URL right" in served.line("health")


@pytest.mark.parametrize("url", ["http://api.example/v1", "api.example", "", "ftp://127.0.0.1"])
def test_a_token_does_not_travel_in_clear(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        Target(url, TOKEN)


# --- streams


@dataclass
class Streaming:
    """An API whose streams begin and end after these milliseconds, one after the other."""

    times: list[tuple[int, int]]
    token = TOKEN

    def hear(self, *_: object) -> Heard:
        first, last = self.times.pop(0)
        events = stream_of("one two").body
        return Heard([Event(each["type"], each, last if each is events[-1] else first) for each in events])

    def charge(self, _: object) -> str:
        return "$0"

    def ask_stream(self) -> str:
        return Streams(self, Conversation(self)).question()  # type: ignore[arg-type] # as much of an API as it uses


@pytest.mark.parametrize(
    ("times", "seen"),
    [
        ([(900, 4000)], "after 900 of 4000 ms, $0"),
        ([(6000, 9000), (900, 4000)], "after 900 of 4000 ms, $0"),  # a cold start, and then none
        ([(20, 999), (20, 999)], "too short to tell"),
    ],
)
def test_a_stream_whose_first_event_comes_early_is_one(times: list[tuple[int, int]], seen: str) -> None:
    assert seen in Streaming(times).ask_stream()


def test_an_answer_that_comes_whole_is_no_stream() -> None:
    with pytest.raises(Unexpected, match=r"holds the stream back.*AWS_LWA_INVOKE_MODE"):
        Streaming([(3990, 4000), (1601, 4000)]).ask_stream()


def heard_of(text: str, *left_out: str, more: Sequence[dict[str, Any]] = ()) -> Heard:
    first, *others = stream_of(text).body
    kept = [each for each in (first, *more, *others) if each["type"] not in left_out]
    return Heard([Event(each["type"], each, 0) for each in kept])


@pytest.mark.parametrize(
    ("heard", "words"),
    [
        (Heard([]), "without an event"),
        (heard_of("ok", "turnlog.turn"), "from message_start to turnlog.done"),
        (heard_of("ok", "turnlog.done"), "from turnlog.turn to message_stop"),
        (heard_of("ok", "message_stop"), "'message_stop': 0"),
        (heard_of("ok", more=[{"type": "message_start"}]), "'message_start': 2"),
        (heard_of("ok", more=[{"type": "error", "error": {"message": "busy"}}]), "stream: busy"),
        (heard_of("ok", "turnlog.done", "message_stop", more=[{"type": "error"}]), "without a message"),
        (heard_of("ok", "content_block_delta"), "without a text"),
        (heard_of(""), "without a text"),
    ],
)
def test_what_is_no_whole_message_is_no_stream(heard: Heard, words: str) -> None:
    with pytest.raises(Unexpected, match=re.escape(words)):
        heard.require_whole()


def test_an_event_without_an_object_is_told() -> None:
    for data in ("[]", "{", "1"):
        with pytest.raises(Unexpected, match="message_start whose data are no JSON object"):
            events_of([("event: message_start", 0), (f"data: {data}", 0), ("", 0)])


def test_comments_and_pieces_of_data_are_read_as_the_format_has_them() -> None:
    (event,) = events_of([(": ping", 0), ("event: a", 0), ("data: {", 1), ("data: }", 2), ("", 3), ("data: {}", 4)])
    assert (event.kind, event.data, event.at_ms) == ("a", {}, 3)


# --- documents


@dataclass
class S3Account:
    """The account of a deployment: a bucket that keeps versions, by moto."""

    client_of_s3: Any
    bucket: str = "documents"
    refused: dict[str, str] = field(default_factory=dict)
    """The code of the error that an operation gets."""

    def client(self, service: str) -> Any:
        return self

    def __getattr__(self, operation: str) -> Any:
        if operation in self.refused:
            raise ClientError({"Error": {"Code": self.refused[operation], "Message": "no"}}, operation)
        return getattr(self.client_of_s3, operation)

    def stored(self) -> list[str]:
        found = self.client_of_s3.list_object_versions(Bucket=self.bucket)
        return [each["Key"] for each in [*found.get("Versions", []), *found.get("DeleteMarkers", [])]]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Account]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws(), closing(boto3.client("s3", region_name="us-east-1")) as s3:
        s3.create_bucket(Bucket="documents")
        s3.put_bucket_versioning(Bucket="documents", VersioningConfiguration={"Status": "Enabled"})
        yield S3Account(s3)


@dataclass
class Summarizer:
    """Sleeps by moving a clock; meanwhile it writes each of `summaries` beside the document that was put."""

    account: S3Account
    summaries: list[Any]
    now_s: float = 0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        if self.summaries:
            (document,) = [key for key in set(self.account.stored()) if key.startswith(f"inbox/{FOLDER}/")]
            key = f"{document.replace('inbox', 'outbox')}.summary.json"
            summary = self.summaries.pop(0)
            body = summary if isinstance(summary, bytes) else json.dumps(summary).encode()
            self.account.client_of_s3.put_object(Bucket="documents", Key=key, Body=body)

    def documents(self) -> Documents:
        api = Api(Target("http://127.0.0.1:9"))
        return Documents(api, self.account, TOKEN, self.sleep, lambda: self.now_s)  # type: ignore[arg-type] # as much of an account as it uses


DONE = {"status": "done", "text": "Herons.", "cost_usd": "0.001"}


def test_a_document_is_summarized_and_both_are_removed(account: S3Account) -> None:
    documents = Summarizer(account, [{"status": "running"}, DONE]).documents()
    assert documents.upload() == "a summary after 2.0 s, $0.001"
    assert documents.erase() == 2
    assert account.stored() == []


@pytest.mark.parametrize(
    ("summaries", "words"),
    [
        ([], "after 60 s the summary is none"),
        ([{"status": "running"}], "after 60 s the summary is running"),
        ([{"status": "failed", "code": "model_refused"}], "failed with model_refused"),
        ([{"status": "done", "text": ""}], "without a text"),
        (["done"], "no JSON object"),
        ([b"{"], "no JSON"),
    ],
)
def test_a_summary_that_is_not_right_fails_and_nothing_stays(
    account: S3Account, summaries: list[Any], words: str
) -> None:
    documents = Summarizer(account, summaries).documents()
    with pytest.raises(Unexpected, match=words):
        documents.upload()
    documents.erase()
    assert account.stored() == []


@pytest.mark.parametrize(
    ("operation", "code", "outcome", "words"),
    [
        ("put_object", "NoSuchBucket", Unexpected, "cannot be put.*NoSuchBucket"),
        ("put_object", "AccessDenied", LeftOut, "may not have s3:PutObject"),
        ("get_object", "InternalError", Unexpected, "cannot be read"),
        ("get_object", "AccessDenied", LeftOut, "may not have s3:GetObject"),
    ],
)
def test_a_bucket_that_refuses_fails_or_is_left_out(
    account: S3Account, operation: str, code: str, outcome: type[Exception], words: str
) -> None:
    account.refused = {operation: code}
    documents = Summarizer(account, []).documents()
    with pytest.raises(outcome, match=words):
        documents.upload()
    documents.erase()
    assert account.stored() == []


@pytest.mark.parametrize("code", ["AccessDenied", "InternalError"])
def test_a_document_that_cannot_be_removed_is_told(account: S3Account, code: str) -> None:
    documents = Summarizer(account, [DONE]).documents()
    documents.upload()
    account.refused = {"delete_object": code}
    with pytest.raises(Unexpected, match="inbox/ keeps a document"):
        documents.erase()


def test_without_aws_credentials_documents_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    target = Target("https://abc123.execute-api.eu-west-1.amazonaws.com/v1", TOKEN)
    assert target.region == "eu-west-1"
    with pytest.raises(LeftOut, match="needs AWS credentials"):
        Documents(Api(target), Account(target), TOKEN).upload()


@dataclass
class CloudFormation:
    """A stack with one output, or an error of AWS."""

    url: str = ""
    error: str = ""

    def describe_stacks(self, **_: str) -> dict[str, Any]:
        if self.error == "unreachable":
            raise EndpointConnectionError(endpoint_url="https://cloudformation")
        if self.error:
            raise ClientError({"Error": {"Code": self.error, "Message": "no"}}, "DescribeStacks")
        return {"Stacks": [{"Outputs": [{"OutputKey": "ApiUrl", "OutputValue": self.url}]}]}

    def close(self) -> None:
        """Has nothing to close."""


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        (CloudFormation("https://other.example/v1"), "another URL"),
        (CloudFormation(error="ValidationError"), "no stack turnlog"),
        (CloudFormation(error="AccessDenied"), "may not have"),
    ],
)
def test_a_bucket_of_another_deployment_is_never_used(stack: CloudFormation, words: str) -> None:
    account = Account(Target("https://api.example/v1", TOKEN))
    account._clients["cloudformation"] = stack
    with pytest.raises(LeftOut, match=words):
        _ = account.bucket


@pytest.mark.parametrize(
    ("error", "words"), [("Throttling", "cannot be read"), ("unreachable", "cannot be asked for the stack turnlog")]
)
def test_a_stack_that_cannot_be_asked_fails(error: str, words: str) -> None:
    account = Account(Target("https://api.example/v1", TOKEN))
    account._clients["cloudformation"] = CloudFormation(error=error)
    with pytest.raises(Unexpected, match=words):
        _ = account.bucket


# --- throttling


@dataclass
class StageAccount:
    """An account in which the stage's settings can be read, unless there are none."""

    settings: dict[str, Any] | None
    outputs: Mapping[str, str] = field(default_factory=lambda: {"ApiId": "abc123"})

    def client(self, service: str) -> Any:
        if self.settings is None:
            raise LeftOut("no credentials")
        return self

    def get_stage(self, **_: str) -> dict[str, Any]:
        if self.settings == {"no": "stage"}:
            raise ClientError({"Error": {"Code": "NotFoundException", "Message": "no"}}, "GetStage")
        return {"methodSettings": self.settings}


LIMITED = {"*/*": {"throttlingRateLimit": 50.0, "throttlingBurstLimit": 50}}
REFUSED = replace(problem(429, "too_many_requests"), headers={**PROBLEM, "Retry-After": "1"})


def meet_limit(serve: Serve, settings: dict[str, Any] | None, refusal: Response | None, after: int = 7) -> str:
    deployment = Deployment("POST /anonymous/sessions", lambda answer: refusal or answer, after)
    served = serve(deployment)
    with closing(Api(served.target)) as api:
        return throttle(api, StageAccount(settings))  # type: ignore[arg-type] # as much of an account as it uses


def test_a_burst_that_is_refused_and_the_settings_prove_the_limit(serve: Serve) -> None:
    seen = meet_limit(serve, LIMITED, REFUSED)
    assert seen.startswith("429 too_many_requests after ")
    assert "50 a second, 50 at once" in seen
    assert "429 too_many_requests" in meet_limit(serve, None, REFUSED)


def test_the_settings_prove_the_limit_where_no_burst_meets_it(serve: Serve) -> None:
    assert f"a burst of {MOST_REQUESTS} requests met none" in meet_limit(serve, LIMITED, None)


def test_a_burst_that_meets_no_limit_proves_nothing_without_the_settings(serve: Serve) -> None:
    with pytest.raises(LeftOut, match="no credentials"):
        meet_limit(serve, None, None)


@pytest.mark.parametrize(
    ("settings", "refusal", "words"),
    [
        ({}, REFUSED, "is RequestsPerSecond deployed"),
        ({"no": "stage"}, REFUSED, "the stage v1 cannot be read"),
        ({"*/*": {"throttlingRateLimit": 10_000.0, "throttlingBurstLimit": 5000}}, REFUSED, "10000 requests a second"),
        (LIMITED, problem(429, "too_many_requests"), "without Retry-After"),
        (LIMITED, Response(429, {"message": "Too Many Requests"}), "not 429 too_many_requests"),
        (LIMITED, problem(503, "dependency_unavailable"), "503 dependency_unavailable"),
        (LIMITED, Response(201, {}), "201, not 400"),
    ],
)
def test_a_limit_that_is_off_or_refuses_badly_fails(
    serve: Serve, settings: dict[str, Any], refusal: Response, words: str
) -> None:
    with pytest.raises(Unexpected, match=words):
        meet_limit(serve, settings, refusal)


# --- TLS ---

TODAYS = {"securityPolicy": "SecurityPolicy_TLS13_1_2_PFS_PQ_2025_09", "endpointAccessMode": "STRICT"}


@dataclass
class ApiAccount:
    """An account of which only the API's settings can be read."""

    found: dict[str, str]
    outputs: Mapping[str, str] = field(default_factory=lambda: {"ApiId": "abc123"})

    def client(self, service: str) -> Any:
        return self

    def get_rest_api(self, **_: str) -> dict[str, str]:
        return self.found


def test_an_api_with_tls_of_today_is_shown() -> None:
    assert transport(ApiAccount(TODAYS), is_local=False).endswith("2025_09, STRICT")  # type: ignore[arg-type] # see above


@pytest.mark.parametrize(
    "found", [{}, TODAYS | {"securityPolicy": "TLS_1_0"}, TODAYS | {"endpointAccessMode": "BASIC"}], ids=str
)
def test_an_api_whose_tls_was_reset_fails(found: dict[str, str]) -> None:
    with pytest.raises(Unexpected, match="deploy again"):
        transport(ApiAccount(found), is_local=False)  # type: ignore[arg-type] # see above

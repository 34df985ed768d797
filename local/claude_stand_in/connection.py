"""One client's connection: HTTP in, the Messages API out, faults and the control paths included."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from local.claude_stand_in.cache import PromptCache
from local.claude_stand_in.catalogue import model_json, page_json
from local.claude_stand_in.course import course_of
from local.claude_stand_in.diagnosis import Diagnoses
from local.claude_stand_in.dialect import Dialect
from local.claude_stand_in.errors import ApiError, invalid
from local.claude_stand_in.faults import Fault, Faults
from local.claude_stand_in.prompt import digest
from local.claude_stand_in.record import KEPT_HEADERS, Record, Request
from local.claude_stand_in.replies import reply_to
from local.claude_stand_in.replying import ReplyHandler
from local.claude_stand_in.rules import check_count_request, check_message_request, parsed
from local.claude_stand_in.threads import Threads, ThreadTurn
from local.claude_stand_in.turns import last_user_text
from local.claude_stand_in.wire import new_request_id


class Connection(ReplyHandler):
    """Serves the requests of one client, one after the other."""

    record: Record
    faults: Faults
    clock: Callable[[], float]
    cache: PromptCache
    diagnoses: Diagnoses
    threads: Threads

    @classmethod
    def serving(cls, record: Record, faults: Faults, clock: Callable[[], float]) -> type[Connection]:
        """The handler class for one server. `clock` returns seconds since 1970."""
        served = {"record": record, "faults": faults, "clock": staticmethod(clock)}
        kept = {"cache": PromptCache(), "diagnoses": Diagnoses(), "threads": Threads()}
        return type("Connection", (cls,), served | kept)

    def answer(self) -> None:
        self.request_id = new_request_id()
        try:
            self._route(self.read_body())
        except ApiError as error:
            self.send_refusal(error)
        except RecursionError:
            self.send_refusal(invalid("The request body is nested too deeply."))

    def _route(self, body: bytes) -> None:
        path = urlsplit(self.path).path
        match (self.command, path):
            case ("POST", "/v1/messages"):
                self._answer_messages(body)
            case ("POST", "/v1/messages/count_tokens"):
                self.send_answer(200, self._counted(body))
            case ("GET", "/v1/models"):
                self._check_headers()
                self.send_answer(200, page_json(urlsplit(self.path).query, self._now()))
            case ("GET", _) if path.startswith("/v1/models/"):
                self._check_headers()
                self.send_answer(200, model_json(unquote(path.removeprefix("/v1/models/")), self._now()))
            case ("GET", "/_stand_in/requests"):
                self.send_answer(200, [each.to_json() for each in self.record.requests])
            case ("DELETE", "/_stand_in/requests"):
                self.record.forget_requests()
                self.send_answer(200, [])
            case ("POST", "/_stand_in/faults"):
                self.send_answer(200, {"added": self._add_faults(body)})
            case ("DELETE", "/_stand_in/faults"):
                self.faults.clear()
                self.send_answer(200, [])
            case ("GET", "/_stand_in/stats"):
                self.send_answer(200, asdict(self.record.stats))
            case _:
                raise ApiError("not_found_error", "Not found")

    def _add_faults(self, body: bytes) -> int:
        """Adds all faults of the list or none, and returns their number."""
        try:
            listed = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise invalid("The request body is not valid JSON.") from error
        if not isinstance(listed, list):
            raise invalid("faults: should be a list")
        faults = [Fault.of_json(each) for each in listed]
        self.faults.add(*faults)
        return len(faults)

    def _counted(self, raw: bytes) -> dict[str, Any]:
        prompt = check_count_request(self._received(raw), self._now(), self._dialect())
        managed = {"context_management": {"original_input_tokens": prompt.tokens}}
        return {"input_tokens": prompt.tokens} | (managed if prompt.body.get("context_management") else {})

    def _received(self, raw: bytes) -> dict[str, Any]:
        """The request's body. Raises ApiError when its headers are wrong; the request is recorded either way."""
        headers = {name: value for name in KEPT_HEADERS if (value := self._header(name)) is not None}
        body = None
        try:
            self._check_headers()
            body = parsed(raw)
        finally:
            self.record.keep(Request(urlsplit(self.path).path, headers, self._is_authorised(), body), len(raw))
        return body

    def _is_authorised(self) -> bool:
        bearer = self.headers.get("authorization", "").lower().startswith("bearer ")
        return bearer or bool(self.headers.get("x-api-key"))

    def _check_headers(self) -> None:
        if not self._is_authorised():
            raise ApiError("authentication_error", "x-api-key header is required")
        self._dialect()

    def _dialect(self) -> Dialect:
        return Dialect.of_headers(self.headers.get("anthropic-version"), self._header("anthropic-beta") or "")

    def _header(self, name: str) -> str | None:
        """A header's value; those of several with this name are one list."""
        return ",".join(self.headers.get_all(name, [])) or None

    def _answer_messages(self, raw: bytes) -> None:
        # The last bytes go out after the count went down: who has read the answer sees the call as ended.
        with self.record.one_call():
            last_bytes = self._begin_answer(raw)
        self.wfile.write(last_bytes)

    def _begin_answer(self, raw: bytes) -> bytes:
        began_s = self.clock()
        body = self._received(raw)
        dialect, account = self._dialect(), self._account()
        if not dialect.has("thread"):
            return self._begin_reply(ThreadTurn(body), account, began_s)
        with self.threads.turn(account, body) as turn:
            return self._begin_reply(turn, account, began_s)

    def _begin_reply(self, turn: ThreadTurn, account: str, began_s: float) -> bytes:
        body = turn.body
        prompt = check_message_request(body, self._now(), self._dialect())
        streamed = body.get("stream", False)
        fault = self.faults.take(last_user_text(body))
        if fault and fault.error:
            raise fault.error
        if fault and self.ends_in_silence(fault, streamed=streamed):
            self.close_connection = True
            return b""
        if fault and fault.kind == "garbage":
            return self.begin_garbage(streamed=streamed)
        reply = reply_to(prompt, self.cache.use(account, prompt, began_s))
        reply = replace(reply, diagnostics=self.diagnoses.diagnosis(account, prompt, reply.id))
        if reply.stop_reason != "refusal":
            turn.keep(reply.id, reply.content)
        if streamed:
            return self.begin_stream(course_of(reply.events(), reply.wishes, fault, self.request_id))
        return self.begin_plain(reply, fault)

    def _account(self) -> str:
        """A name for whoever has this key, which does not tell the key."""
        bearer = self.headers.get("authorization", "").partition(" ")[2]
        return digest(self.headers.get("x-api-key") or bearer)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

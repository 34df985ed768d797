"""For each permission of each function's role, the request that needs it.

A request is prepared while the role is whole. What is prepared is then asked once: without the permission it is
refused, and with it it is answered.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import httpx2

from local.issuer import Issuer
from local.state import StateFolder
from tests.added_function import single_turn_functions
from tests.e2e.roles import Permission
from tests.e2e.stack import PATIENCE_S, Stack
from tests.fakes import new_session
from turnlog.adapters.dynamodb.encode import lease_item
from turnlog.adapters.dynamodb.items import index_key, owner_partition, partition
from turnlog.domain.owners import owner_hash
from turnlog.domain.sessions import new_session_id
from turnlog.domain.turns import Lease

Outcome = tuple[int, str]
"""A status and, of a problem, its code. An invocation that fails has the status 500, and 200 else."""

Ask = Callable[[], Outcome]
Prepare = Callable[["Callers"], Ask]
Item = dict[str, Any]

UNAVAILABLE = (503, "dependency_unavailable")
FAILED = (500, "failed")
TOOL_FAILED = (200, "tool_failed")
_SPAN_MS = 15 * 60 * 1000  # of one partition of the sweeper's list


@dataclass(frozen=True, slots=True)
class Request:
    """A request, its outcome without the permission, and the code of its answer with it: none when it is done.

    `is_cold` is true when an execution environment uses the permission once, or once in minutes: then it is asked of a
    new one. Of one function such permissions are in the order in which an environment uses them.
    """

    prepare: Prepare
    refused: Outcome = UNAVAILABLE
    code: str = ""
    is_cold: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who has never called before, and the header by which the API knows them."""

    owner: str
    authorization: str
    secret: str = ""

    @property
    def hash(self) -> str:
        return owner_hash(self.owner)

    @property
    def name(self) -> str:
        """The caller's name on the routes of administrators."""
        return base64.urlsafe_b64encode(self.owner.encode()).rstrip(b"=").decode()


class Callers:
    """Callers of a stack, and what they ask."""

    def __init__(self, stack: Stack) -> None:
        state = StateFolder(stack.state)
        ports = state.ports()
        assert ports
        self._issuer = Issuer(state.issuer_key, ports.issuer)
        self._http = httpx2.Client(base_url=stack.api_url, timeout=PATIENCE_S)
        self._lambda = stack.client("lambda")
        self._functions = [each["FunctionName"] for each in self._lambda.list_functions()["Functions"]]
        self._dynamodb, self._s3 = stack.dynamodb, stack.s3
        self._tables, self._bucket = stack.run["tables"], stack.bucket
        self.fail = stack.fail
        """Makes a call of the stand-in fail."""

    def close(self) -> None:
        self._http.close()
        self._lambda.close()

    # --- callers

    def user(self, *roles: str) -> Caller:
        name = f"user-{secrets.token_hex(6)}"
        token = self._issuer.token(name, datetime.now(UTC), roles)
        return Caller(f"{self._issuer.url}|{name}", f"Bearer {token}")

    def stranger(self) -> Caller:
        secret = secrets.token_urlsafe(32)
        return Caller("", f"Session {secret}", secret)

    # --- what they ask

    def send(
        self, caller: Caller, method: str, path: str, body: Any = None, key: str = "", session_id: str = ""
    ) -> httpx2.Response:
        """Sends a request; at the Messages API's door it may name a session."""
        headers = {"Authorization": caller.authorization, "Idempotency-Key": key or secrets.token_hex(8)}
        headers |= {"Turnlog-Session": session_id} if session_id else {}
        return self._http.request(method, path, json=body, headers=headers)

    def ask(self, caller: Caller, method: str, path: str, body: Any = None, key: str = "") -> Outcome:
        answer = self.send(caller, method, path, body, key)
        return answer.status_code, answer.json()["code"] if answer.status_code >= 400 else ""

    def hear(self, caller: Caller, path: str, body: Any) -> Outcome:
        """Asks for a stream and reads it to its end. The code is that of an error in it, or of a tool that failed."""
        answer = self.send(caller, "POST", path, body)
        if answer.status_code >= 400:
            return answer.status_code, answer.json()["code"]
        told = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data")]
        errors = [str(each["error"]["details"]["error_code"]) for each in told if each["type"] == "error"]
        failed = any(each["type"] == "turnlog.tool" and each["status"] == "failed" for each in told)
        return answer.status_code, next(iter(errors), "tool_failed" if failed else "")

    def session(self, caller: Caller, turns: int = 0) -> str:
        """Makes a session with turns."""
        is_stranger = bool(caller.secret)
        path = "/anonymous/sessions" if is_stranger else "/sessions"
        made = self.send(caller, "POST", path, _hash_of(caller) if is_stranger else {})
        assert made.status_code == 201, made.text
        session_id = str(made.json()["session_id"])
        for _ in range(turns):
            assert self.ask(caller, "POST", f"/sessions/{session_id}/turns", {"message": "hi"}) == (200, "")
        return session_id

    def invoke(self, function: str, event: Any) -> Any:
        """Calls the function beside the gateway. Returns its answer, or None when it failed."""
        name = self._name(function)
        answer = self._lambda.invoke(FunctionName=name, Payload=json.dumps(event).encode())
        return None if "FunctionError" in answer else json.load(answer["Payload"]) or {}

    def run(self, function: str, event: Any) -> Outcome:
        return FAILED if self.invoke(function, event) is None else (200, "")

    def replace_environments(self, function: str) -> None:
        """Lets the function's next request be the first of a new execution environment."""
        name = self._name(function)
        same = self._lambda.get_function_configuration(FunctionName=name)["MemorySize"]
        self._lambda.update_function_configuration(FunctionName=name, MemorySize=same)

    def _name(self, function: str) -> str:
        return next(str(name) for name in self._functions if f"-{function}-" in name)

    # --- what is there before

    def put_document(self, key: str) -> str:
        """Puts a document that no notification tells of; returns its version."""
        put = self._s3.put_object(Bucket=self._bucket, Key=key, Body=b"A heron stood still. It was quiet.")
        return str(put["VersionId"])

    def put_old_counter(self, owner: str) -> None:
        """Puts a counter of the owner whose period is over."""
        item = {"pk": {"S": owner_partition(owner)}, "sk": {"S": "turns#2020"}, "ttl": {"N": "1600000000"}}
        self._dynamodb.put_item(TableName=self._tables["UsageTable"], Item=item | {"v": {"N": "1"}, "n": {"N": "1"}})

    def damage_name(self, owner: str, session_id: str) -> None:
        """Makes the session's id unreadable in its owner's list."""
        self._change(index_key(owner, session_id), "SET kid = :kid", {":kid": {"S": "999999"}})

    def let_expire(self, owner: str, session_id: str) -> None:
        """Makes the session one that expired long ago and is due in the sweeper's next run."""
        pk = partition(owner, session_id)
        past = {":created": {"N": "1"}, ":dies": {"N": "2"}, ":idle": {"N": "1"}}
        change = "SET created = :created, dies = :dies, idle = :idle"
        self._change({"pk": {"S": pk}, "sk": {"S": "session"}}, change, past)
        due = {"pk": {"S": f"D#{int(time.time() * 1000) // _SPAN_MS:09d}#0"}, "sk": {"S": pk}}
        due |= {"v": {"N": "1"}, "own": {"S": owner_partition(owner)}, "ttl": {"N": "4000000000"}}
        self._dynamodb.put_item(TableName=self._tables["SessionsTable"], Item=due)

    def leave_a_move_unfinished(self, owner: str, session_id: str) -> None:
        """Puts a lapsed lease of a mover that has gone, into the slot after the session's one turn."""
        now_ms = int(time.time() * 1000)
        session = replace(new_session(owner, created_ms=now_ms), id=session_id)
        there = partition(owner, new_session_id())
        lease = Lease(2, "token", now_ms - 1, b"k" * 16, b"f" * 16, now_ms - 60_000, moving_to=there)
        self._dynamodb.put_item(TableName=self._tables["SessionsTable"], Item=lease_item(session, lease))

    def _change(self, key: Item, expression: str, values: Item) -> None:
        self._dynamodb.update_item(
            TableName=self._tables["SessionsTable"],
            Key=key,
            UpdateExpression=expression,
            ExpressionAttributeValues=values,
            ConditionExpression="attribute_exists(pk)",
        )


def _hash_of(caller: Caller) -> dict[str, str]:
    return {"secret_sha256": sha256(caller.secret.encode()).hexdigest()}


# --- questions


def question(path: str, **more: Any) -> Prepare:
    def prepare(callers: Callers) -> Ask:
        user = callers.user()
        return lambda: callers.ask(user, "POST", path, {"message": "hi", **more})

    return prepare


def unknown_caller(function: str, path: str, method: str = "POST") -> Prepare:
    """A request whose caller the gateway did not name: the function refuses it and notes that."""
    event = {"resource": path, "path": path, "httpMethod": method, "headers": {}, "requestContext": {"requestId": "r"}}

    def prepare(callers: Callers) -> Ask:
        def ask() -> Outcome:
            answer = callers.invoke(function, event)
            return answer["statusCode"], json.loads(answer["body"])["code"]

        return ask

    return prepare


def wrong_token(callers: Callers) -> Ask:
    wrong = Caller("", f"Bearer a.{secrets.token_hex(8)}.c")
    return lambda: callers.ask(wrong, "GET", "/sessions")


# --- sessions


def first_session(callers: Callers) -> Ask:
    user = callers.user()
    return lambda: callers.ask(user, "POST", "/sessions", {})


def anonymous_session(callers: Callers) -> Ask:
    stranger = callers.stranger()
    return lambda: callers.ask(stranger, "POST", "/anonymous/sessions", _hash_of(stranger))


def same_anonymous_session(callers: Callers) -> Ask:
    stranger = callers.stranger()
    callers.session(stranger)
    return lambda: callers.ask(stranger, "POST", "/anonymous/sessions", _hash_of(stranger))


def session_made_elsewhere(callers: Callers) -> Ask:
    """Another function made the session and its owner's key, so this one has not the key in memory."""
    stranger = callers.stranger()
    session_id = callers.session(stranger)
    return lambda: callers.ask(stranger, "GET", f"/sessions/{session_id}")


def on_session(method: str, body: Any = None, path: str = "", turns: int = 0) -> Prepare:
    def prepare(callers: Callers) -> Ask:
        user = callers.user()
        session_id = callers.session(user, turns)
        return lambda: callers.ask(user, method, f"/sessions/{session_id}{path}", body)

    return prepare


def anonymous_turn(path: str = "/turns") -> Prepare:
    """Such a turn is always counted."""

    def prepare(callers: Callers) -> Ask:
        stranger = callers.stranger()
        session_id = callers.session(stranger)
        return lambda: callers.ask(stranger, "POST", f"/sessions/{session_id}{path}", {"message": "hi"})

    return prepare


def rotation(callers: Callers) -> Ask:
    old, new = callers.stranger(), callers.stranger()
    session_id = callers.session(old)
    return lambda: callers.ask(old, "POST", f"/sessions/{session_id}/rotate", _hash_of(new))


def repeated_claim(callers: Callers) -> Ask:
    stranger, user = callers.stranger(), callers.user()
    path = f"/sessions/{callers.session(stranger)}/claim"
    assert callers.ask(user, "POST", path, {"secret": stranger.secret}, key="claim") == (200, "")
    return lambda: callers.ask(user, "POST", path, {"secret": stranger.secret}, key="claim")


turn = on_session("POST", {"message": "hi"}, "/turns")
streamed_turn = on_session("POST", {"message": "hi"}, "/turns/stream")


# --- streams, and the Messages API's door


def session_at_the_door(callers: Callers) -> Ask:
    user = callers.user()
    model = callers.send(user, "GET", "/models").json()["data"][0]["id"]
    body = {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}

    def ask() -> Outcome:
        answer = callers.send(user, "POST", "/messages", body, session_id="new")
        code = answer.json()["error"]["details"]["error_code"] if answer.status_code >= 400 else ""
        return answer.status_code, code

    return ask


def tool_in_a_streamed_turn(callers: Callers) -> Ask:
    user = callers.user()
    session_id = callers.send(user, "POST", "/sessions", _TOOLS).json()["session_id"]
    return lambda: callers.hear(user, f"/sessions/{session_id}/turns/stream", {"message": "Call list_documents."})


def streamed_turn_after_one_that_failed(callers: Callers) -> Ask:
    """The slot that a turn leaves is the next one's at once."""
    user, message = callers.user(), f"Fail {secrets.token_hex(8)}"
    path = f"/sessions/{callers.session(user)}/turns/stream"

    def ask() -> Outcome:
        callers.fail("credit", match=message)
        assert callers.ask(user, "POST", path, {"message": message})[0] == 503
        return callers.ask(user, "POST", path, {"message": "hi"})

    return ask


def streamed_turn_after_an_unfinished_move(callers: Callers) -> Ask:
    user = callers.user()
    session_id = callers.session(user, turns=1)
    callers.leave_a_move_unfinished(user.owner, session_id)
    return lambda: callers.ask(user, "POST", f"/sessions/{session_id}/turns/stream", {"message": "hi"})


# --- tools

_TOOLS = {"tools": ["list_documents"]}


def _listed(answer: httpx2.Response) -> Outcome:
    """The outcome of the tool that a question or a turn has run."""
    (step,) = answer.json()["steps"]
    return answer.status_code, "tool_failed" if step["results"][0].get("is_error") else ""


def tool_in_a_question(callers: Callers) -> Ask:
    user = callers.user()
    body = {"message": "Call list_documents.", **_TOOLS}
    return lambda: _listed(callers.send(user, "POST", "/query", body))


def tool_in_a_turn(callers: Callers) -> Ask:
    user = callers.user()
    session_id = callers.send(user, "POST", "/sessions", _TOOLS).json()["session_id"]
    body = {"message": "Call list_documents."}
    return lambda: _listed(callers.send(user, "POST", f"/sessions/{session_id}/turns", body))


def document_tool(tool: str) -> Prepare:
    def prepare(callers: Callers) -> Ask:
        user = callers.user()
        callers.put_document(f"inbox/{user.hash}/notes.txt")
        given = {"name": "notes.txt"} if tool == "read_document" else {}
        asked = {"tool": tool, "input": given, "call_id": "toolu_1", "owner": user.owner, "seconds": 10}

        def ask() -> Outcome:
            result = callers.invoke("DocumentsToolFunction", asked)
            return 200, "tool_failed" if result["is_error"] else ""

        return ask

    return prepare


# --- accounts and administrators


def export(callers: Callers) -> Ask:
    user = callers.user()
    callers.session(user)
    return lambda: callers.ask(user, "GET", "/me/export")


def erasure(callers: Callers) -> Ask:
    user = callers.user()
    callers.session(user, turns=1)
    callers.put_old_counter(user.owner)
    return lambda: callers.ask(user, "DELETE", "/me")


def erasure_of_documents(prefix: str) -> Prepare:
    def prepare(callers: Callers) -> Ask:
        user = callers.user()
        callers.put_document(f"{prefix}/{user.hash}/notes.bin")
        return lambda: callers.ask(user, "DELETE", "/me")

    return prepare


def list_of_a_user(callers: Callers) -> Ask:
    admin, user = callers.user("admin"), callers.user()
    callers.session(user)
    return lambda: callers.ask(admin, "GET", f"/admin/users/{user.name}/sessions")


def termination(callers: Callers) -> Ask:
    admin, user = callers.user("admin"), callers.user()
    callers.session(user, turns=1)
    return lambda: callers.ask(admin, "POST", f"/admin/users/{user.name}/terminate")


def termination_of_a_damaged_session(callers: Callers) -> Ask:
    admin, user = callers.user("admin"), callers.user()
    callers.damage_name(user.owner, callers.session(user))
    return lambda: callers.ask(admin, "POST", f"/admin/users/{user.name}/terminate")


# --- events


def sweep(callers: Callers) -> Ask:
    user = callers.user()
    callers.let_expire(user.owner, callers.session(user, turns=1))
    return lambda: callers.run("SweepFunction", {})


def upload(*, is_versioned: bool) -> Prepare:
    def prepare(callers: Callers) -> Ask:
        key = f"inbox/{callers.user().hash}/notes.bin"
        found = {"key": key, "sequencer": "01"}
        version = callers.put_document(key)
        if is_versioned:
            found["version-id"] = version
        event = {"source": "aws.s3", "detail-type": "Object Created", "detail": {"object": found}}
        return lambda: callers.run("SummarizeUploadFunction", event)

    return prepare


# --- the table

_Requests = Mapping[str, Request]
_CLAUDE, _SERVER = "secretsmanager:GetSecretValue ClaudeKey", "secretsmanager:GetSecretValue ServerKey"

_TOOL = "lambda:InvokeFunction DocumentsToolFunction"


def _audited(prepare: Prepare, code: str = "") -> _Requests:
    return {
        "logs:CreateLogStream Audit": Request(prepare, code=code, is_cold=True),
        "logs:PutLogEvents Audit": Request(prepare, code=code),
    }


def _stateless(function: str, path: str) -> _Requests:
    return {
        _CLAUDE: Request(question(path), is_cold=True),
        "dynamodb:UpdateItem UsageTable": Request(question(path)),
        **_audited(unknown_caller(function, path), "unauthorized"),
    }


def _encrypting(prepare: Prepare) -> _Requests:
    """The permissions that the first session of somebody needs."""
    return {
        "dynamodb:Query KeysTable": Request(prepare),
        "dynamodb:PutItem KeysTable": Request(prepare),
        "dynamodb:ConditionCheckItem KeysTable": Request(prepare),
        "kms:GenerateDataKey ContentKey": Request(prepare),
        "dynamodb:ConditionCheckItem SessionsTable": Request(prepare),
        _SERVER: Request(prepare, is_cold=True),
        **_audited(prepare),
    }


def _reading(prepare: Prepare) -> _Requests:
    """The permissions that content needs whose key is not in memory."""
    return {"dynamodb:GetItem KeysTable": Request(prepare), "kms:Decrypt ContentKey": Request(prepare)}


def _deleting(prepare: Prepare, refused: Outcome = UNAVAILABLE) -> _Requests:
    actions = ("PutItem", "BatchWriteItem")
    return {f"dynamodb:{action} SessionsTable": Request(prepare, refused) for action in actions}


_BY_FUNCTION: Mapping[str, _Requests] = {
    **{function: _stateless(function, path) for function, path in single_turn_functions().items()},
    "QueryFunction": {
        **_stateless("QueryFunction", "/query"),
        _SERVER: Request(question("/query", continuable=True), is_cold=True),
        _TOOL: Request(tool_in_a_question, TOOL_FAILED),
    },
    "SessionFunction": {
        **_encrypting(first_session),
        **_reading(session_made_elsewhere),
        **_deleting(on_session("DELETE", turns=1)),
        _CLAUDE: Request(turn, is_cold=True),
        _TOOL: Request(tool_in_a_turn, TOOL_FAILED),
        "dynamodb:Query SessionsTable": Request(on_session("GET")),
        "dynamodb:GetItem SessionsTable": Request(repeated_claim),
        "dynamodb:UpdateItem SessionsTable": Request(on_session("PATCH", {"title": "New"})),
        "dynamodb:UpdateItem UsageTable": Request(anonymous_turn()),
        "dynamodb:ConditionCheckItem UsageTable": Request(rotation),
        "dynamodb:DeleteItem SessionsTable": Request(rotation),
    },
    "StreamFunction": {
        **_encrypting(session_at_the_door),
        **_reading(streamed_turn),
        _CLAUDE: Request(streamed_turn, is_cold=True),
        _TOOL: Request(tool_in_a_streamed_turn, TOOL_FAILED),
        "dynamodb:Query SessionsTable": Request(streamed_turn),
        "dynamodb:GetItem SessionsTable": Request(tool_in_a_streamed_turn, (200, "dependency_unavailable")),
        "dynamodb:PutItem SessionsTable": Request(streamed_turn),
        "dynamodb:DeleteItem SessionsTable": Request(streamed_turn_after_one_that_failed, (409, "turn_in_progress")),
        "dynamodb:BatchWriteItem SessionsTable": Request(streamed_turn_after_an_unfinished_move),
        "dynamodb:UpdateItem UsageTable": Request(anonymous_turn("/turns/stream")),
    },
    "AnonymousFunction": {
        **_encrypting(anonymous_session),
        "dynamodb:Query SessionsTable": Request(anonymous_session),
        "dynamodb:PutItem SessionsTable": Request(anonymous_session),
        "dynamodb:UpdateItem UsageTable": Request(anonymous_session),
        "dynamodb:GetItem KeysTable": Request(same_anonymous_session, is_cold=True),
        "kms:Decrypt ContentKey": Request(same_anonymous_session, is_cold=True),
    },
    "AccountFunction": {
        _SERVER: Request(export, is_cold=True),
        **_audited(export),
        **_reading(export),
        **_deleting(erasure),
        "dynamodb:Query KeysTable": Request(erasure),
        "dynamodb:PutItem KeysTable": Request(erasure),
        "dynamodb:Query SessionsTable": Request(export),
        "dynamodb:Query UsageTable": Request(erasure),
        "dynamodb:BatchWriteItem UsageTable": Request(erasure),
        "s3:ListBucket DocumentsBucket": Request(export),
        "s3:ListBucketVersions DocumentsBucket": Request(erasure),
        "s3:DeleteObjectVersion DocumentsBucket/inbox/*": Request(erasure_of_documents("inbox")),
        "s3:DeleteObjectVersion DocumentsBucket/outbox/*": Request(erasure_of_documents("outbox")),
    },
    "AdminFunction": {
        _SERVER: Request(list_of_a_user, is_cold=True),
        **_audited(list_of_a_user),
        **_reading(list_of_a_user),
        **_deleting(termination),
        "dynamodb:Query SessionsTable": Request(list_of_a_user),
        "dynamodb:GetItem SessionsTable": Request(termination_of_a_damaged_session),
    },
    "ModelsFunction": _audited(unknown_caller("ModelsFunction", "/models", "GET"), "unauthorized"),
    "SweepFunction": {
        **_deleting(sweep, FAILED),
        "dynamodb:DeleteItem SessionsTable": Request(sweep, FAILED),
        "dynamodb:Query SessionsTable": Request(sweep, FAILED),
        "dynamodb:GetItem SessionsTable": Request(sweep, FAILED),
    },
    "SummarizeUploadFunction": {
        _CLAUDE: Request(upload(is_versioned=True), FAILED, is_cold=True),
        "s3:GetObject DocumentsBucket/inbox/*": Request(upload(is_versioned=False), FAILED),
        "s3:GetObjectVersion DocumentsBucket/inbox/*": Request(upload(is_versioned=True), FAILED),
        "s3:GetObject DocumentsBucket/outbox/*": Request(upload(is_versioned=True), FAILED),
        "s3:PutObject DocumentsBucket/outbox/*": Request(upload(is_versioned=True), FAILED),
        "s3:ListBucket DocumentsBucket": Request(upload(is_versioned=True), FAILED),
    },
    "DocumentsToolFunction": {
        "s3:GetObject DocumentsBucket/inbox/*": Request(document_tool("read_document"), TOOL_FAILED),
        "s3:ListBucket DocumentsBucket": Request(document_tool("list_documents"), TOOL_FAILED),
    },
    "AuthorizerFunction": _audited(wrong_token, "unauthorized"),
}

REQUESTS = {
    Permission(function, *needed.split(" ")): request
    for function, requests in _BY_FUNCTION.items()
    for needed, request in requests.items()
}

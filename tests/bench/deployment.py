"""A deployment of processes on this machine, each of them a function that is measured."""

from __future__ import annotations

import base64
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import boto3

from local.claude_stand_in.objects import object_for
from local.issuer import AUDIENCE, Issuer
from local.loopback import GuardedHandler, LoopbackServer
from tests import deployed
from tests.bench.conversation import WORDS
from tests.bench.loopback_aws import loopback_aws
from turnlog.domain.documents import MAX_DOCUMENT
from turnlog.domain.owners import owner_hash

REGION = "us-east-1"
OWNER = "https://issuer.example/|ada"
ADMIN = "admin admin:content"
NONE_KEPT = {"PYTHONDONTWRITEBYTECODE": "1"}
Event = dict[str, Any]
_WORKER = Path(__file__).with_name("worker.py")
_KEYS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Used:
    """The peak of resident memory so far in MB, and the CPU seconds of this step."""

    peak_mb: float
    cpu_s: float


class Deployment:
    """The environment of all functions, in an account at `aws`, with Claude and an issuer on this machine."""

    def __init__(self, aws: str, claude: str, issuer: Issuer, folder: Path) -> None:
        self._issuer = issuer
        self._folder = folder
        self._clients: dict[str, Any] = {
            name: boto3.client(
                name, endpoint_url=aws, region_name=REGION, aws_access_key_id="bench", aws_secret_access_key="bench"
            )
            for name in ("dynamodb", "kms", "s3", "secretsmanager", "logs")
        }
        self._environment = {
            "AWS_ENDPOINT_URL": aws,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "HOME": str(folder),
            "ENVIRONMENT": "local",
            "CLAUDE_BASE_URL": claude,
            "TOKEN_ISSUER": issuer.url,
            "TOKEN_AUDIENCE": AUDIENCE,
            "TOKEN_JWKS_URL": issuer.jwks_url,
            # Counted, and never reached.
            "OWNER_TURNS_A_MINUTE": "100000",
            "OWNER_BUDGET_A_DAY": "1000000000",
            "OWNER_SESSIONS_A_DAY": "100000",
            "SESSION_TURNS_A_MINUTE": "0",
            "TOOL_FUNCTIONS": "documents=documents-tool",
            **self._make(),
        }

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _make(self) -> dict[str, str]:
        """Makes what the functions use. Returns its names by the variables that they are in."""
        tables = {"SESSIONS_TABLE": "sessions", "USAGE_TABLE": "usage", "KEYS_TABLE": "keys"}
        for table in tables.values():
            self._clients["dynamodb"].create_table(
                TableName=table,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            )
        secrets = {"CLAUDE_KEY_SECRET": "claude", "SERVER_KEY_SECRET": "server"}
        for name in secrets.values():
            self._clients["secretsmanager"].create_secret(Name=name, SecretString="a secret for the benchmark")
        self._clients["s3"].create_bucket(Bucket="documents")
        self._clients["logs"].create_log_group(logGroupName="audit")
        key = self._clients["kms"].create_key()["KeyMetadata"]["Arn"]
        return {**tables, **secrets, "DOCUMENTS_BUCKET": "documents", "AUDIT_LOG_GROUP": "audit", "CONTENT_KEY": key}

    def environment(self, function: str, **byte_code: str) -> dict[str, str]:
        """The whole environment of a function's process, with the variables that say where its byte code is kept."""
        settings = deployed.environment(deployed.logical_name(function)) | self._environment
        settings["PYTHONPATH"] = os.pathsep.join(["layers/turnlog/python", f"functions/{function}"])
        return settings | (byte_code or {"PYTHONPYCACHEPREFIX": str(self._folder / "byte code")})

    def token(self) -> str:
        """A token of Ada's."""
        return self._issuer.token("ada", datetime.now(UTC))

    @contextmanager
    def worker(self, function: str, **byte_code: str) -> Iterator[Worker]:
        """A process of the function, which ends with the block. `byte_code` are the variables that say where that is.

        By default it is kept for the next process, as a layer brings it.
        """
        with subprocess.Popen(
            [sys.executable, "-P", str(_WORKER)],
            env=self.environment(function, **byte_code),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdin
            with process.stdin:  # its end is the order to stop
                yield Worker(process)

    def uncompiled_s(self, function: str) -> float:
        """The CPU of a start that finds no byte code."""
        with self.worker(function, **NONE_KEPT, PYTHONPYCACHEPREFIX=str(self._folder / "nothing")) as worker:
            return worker.start.cpu_s

    def fill(self, owner: str, sessions: int, turns: int, body: Mapping[str, Any]) -> list[str]:
        """Makes sessions with so many turns each. Returns their ids."""
        made = []
        with self.worker("session") as worker:
            for _ in range(sessions):
                settings = {"max_tokens": body.get("max_tokens", 100)}
                session_id = worker.answer(event("POST", "/sessions", settings, owner=owner))["session_id"]
                for _ in range(turns):
                    turn = {"message": body["message"]}
                    worker.answer(
                        event("POST", "/sessions/{id}/turns", turn, {"id": session_id}, owner=owner, key=new_key())
                    )
                made.append(session_id)
        return made

    def ref_of_first(self, owner: str) -> str:
        """The name of an owner's newest session for administrators."""
        whom = base64.urlsafe_b64encode(owner.encode()).rstrip(b"=").decode()
        with self.worker("admin") as worker:
            listed = worker.answer(event("GET", "/admin/users/{owner}/sessions", None, {"owner": whom}, roles=ADMIN))
        return str(listed["items"][-1]["ref"])

    def authorization(self) -> Event:
        """A request to the authorizer, with a token that does not open the route, which is audited."""
        arn = "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/v1/GET/admin/users/x/sessions"
        return {"type": "TOKEN", "authorizationToken": f"Bearer {self.token()}", "methodArn": arn}

    def upload(self) -> Event:
        """The event of a new document, which is as large as one may be."""
        key = f"inbox/{owner_hash(OWNER)}/{new_key()}.txt"
        self._clients["s3"].put_object(Bucket="documents", Key=key, Body=prose(MAX_DOCUMENT).encode())
        found = {"key": key, "sequencer": "0055AED6DCD90281E5"}
        return {"source": "aws.s3", "detail-type": "Object Created", "detail": {"object": found}}


class Worker:
    """A function's process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._cpu_s = 0.0
        self.start = self._read()[1]

    def ask(self, event: Event, ahead_ms: int = 0) -> Used:
        """Returns the memory and CPU used for an event. Raises RuntimeError for an answer of 400 or more."""
        return self._ask(event, ahead_ms)[1]

    def answer(self, event: Event) -> dict[str, Any]:
        """The body of what the function answers."""
        answer, _ = self._ask(event, 0)
        body: dict[str, Any] = json.loads(answer["body"])
        return body

    def _ask(self, event: Event, ahead_ms: int) -> tuple[Any, Used]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps([ahead_ms, event]).encode() + b"\n")
        self._process.stdin.flush()
        answer, used = self._read()
        if isinstance(answer, dict) and answer.get("statusCode", 200) >= 400:
            raise RuntimeError(answer["body"])
        return answer, used

    def _read(self) -> tuple[Any, Used]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the function ended")
        answer, used = json.loads(line)
        cpu_s, self._cpu_s = used["cpu_s"] - self._cpu_s, used["cpu_s"]
        return answer, Used(round(used["peak_mb"], 1), round(cpu_s, 4))


class _Claude(GuardedHandler):
    """Answers each message with a reply as long as it may be, and counts 4 characters as a token."""

    def answer(self) -> None:
        asked = json.loads(raw := self.rfile.read(int(self.headers["Content-Length"])))
        usage = {"input_tokens": len(raw) // 4, "output_tokens": asked["max_tokens"]}
        content = [{"type": "text", "text": longest_text(asked)}]
        reply = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "content": content}
        self.send_json(200, reply | {"stop_reason": "end_turn", "stop_sequence": None, "usage": usage})


def longest_text(asked: Mapping[str, Any]) -> str:
    """The text of the longest reply: prose, or the JSON of an object with as much, if the request has a schema."""
    text = prose(asked["max_tokens"] * 4)
    form = asked.get("output_config", {}).get("format")
    if not form:
        return text
    made = object_for(form["schema"], "Herons nest in trees.")
    free = next(name for name in ("summary", "overview") if name in made)
    return json.dumps(made | {free: text[len(json.dumps(made)) :]})


@contextmanager
def deployment(claude_url: str = "") -> Iterator[Deployment]:
    """Yields a deployment whose Claude answers at `claude_url`, or else at once with the longest reply."""
    with tempfile.TemporaryDirectory() as name, loopback_aws() as aws, LoopbackServer(0, _Claude, "claude") as claude:
        folder = Path(name)
        key_file = folder / "issuer.pem"
        with (
            Issuer(key_file, 0).server(0) as server,
            closing(Deployment(aws, claude_url or claude.url, Issuer(key_file, server.server_port), folder)) as made,
        ):
            yield made


def event(
    method: str,
    resource: str,
    body: object = None,
    parameters: Mapping[str, str] | None = None,
    *,
    owner: str = OWNER,
    key: str = "",
    roles: str = "",
    query: Mapping[str, list[str]] | None = None,
) -> Event:
    """A request as the gateway hands it over: its body in base64."""
    verified = {"owner": owner, "kind": "user", "expires": "4102444800", "roles": roles} if owner else None
    return {
        "resource": resource,
        "path": resource,
        "httpMethod": method,
        "headers": {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {})},
        "multiValueQueryStringParameters": query,
        "pathParameters": parameters,
        "requestContext": {"requestId": "req-1", "authorizer": verified, "identity": {"sourceIp": "203.0.113.7"}},
        "body": None if body is None else base64.b64encode(json.dumps(body).encode()).decode(),
        "isBase64Encoded": True,
    }


def new_key() -> str:
    return f"key-{next(_KEYS)}"


@cache
def prose(characters: int) -> str:
    """Invented words, which pack as prose does."""
    source = random.Random(characters)
    return " ".join(source.choices(WORDS, k=characters // 4))[:characters]

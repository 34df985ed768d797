"""This version of Turnlog and the one before it, out of git, each serving the same tables in a process of its own."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3

from tests import deployed

ROOT = Path(__file__).parents[3]
CODE = ("layers/turnlog", "functions")
NAMED_BY = "TURNLOG_PREVIOUS"
"""The environment variable that names another commit to stand for the version before, such as a release."""

_FUNCTIONS = ("AuthorizerFunction", "AnonymousFunction", "AccountFunction", "SessionFunction")


@dataclass(frozen=True, slots=True)
class Answered:
    """A handler's answer; `text` is its body to the byte."""

    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def body(self) -> Any:
        return json.loads(self.text) if self.text else None


class Served:
    """One version's handlers, called like the gateway calls them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @cached_property
    def package(self) -> str:
        """The file of the package that it serves, which it names when it has started."""
        return str(self._read())

    def ask(
        self,
        route: str,
        body: object = None,
        *,
        function: str = "session",
        key: str | None = None,
        secret: str | None = None,
        owner: str | None = "https://issuer.example/|ada",
        **parameters: str,
    ) -> Answered:
        """Sends a request of a signed-in owner or, with a `secret`, of an anonymous caller, or of nobody."""
        method, path = route.split(" ")
        caller = {"owner": owner, "kind": "user", "expires": "4102444800", "roles": ""} if owner else None
        if secret:
            arn = "arn:aws:execute-api:::api/v1/GET/sessions/x"
            caller = self._call("authorizer", {"authorizationToken": f"Session {secret}", "methodArn": arn})["context"]
        answer = self._call(
            function,
            {
                "resource": path,
                "path": path.format_map(parameters),
                "httpMethod": method,
                "headers": {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {}),
                "multiValueQueryStringParameters": None,
                "pathParameters": parameters or None,
                "requestContext": {"requestId": "r", "authorizer": caller, "identity": {"sourceIp": "203.0.113.7"}},
                "body": None if body is None else base64.b64encode(json.dumps(body).encode()).decode(),
                "isBase64Encoded": True,
            },
        )
        return Answered(answer["statusCode"], answer["body"], answer["headers"])

    def _call(self, function: str, event: Mapping[str, Any]) -> Any:
        assert self.package
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"function": function, "event": event}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the process has ended"
        return json.loads(line)


def previous_commit() -> str:
    """The newest commit whose code is not that of the working tree: with local changes the last one, else the one
    before the last that changed any code.

    Raises LookupError, which says why, when there is none.
    """
    if named := os.environ.get(NAMED_BY):
        return named
    try:
        commits = _git("rev-list", "--max-count=20", "HEAD", "--", *CODE).decode().split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise LookupError("this is no clone of the repository, so there is no commit to take out of it") from error
    for commit in commits:
        if _git("diff", "--name-only", commit, "--", *CODE):
            return commit
    raise LookupError("the clone is too shallow: it has no commit with other code than this one's")


@contextmanager
def extracted(commit: str) -> Iterator[Path]:
    """Yields a folder with the code and the template of the commit."""
    with tempfile.TemporaryDirectory(prefix="turnlog-version-") as folder:
        archive = _git("archive", "--format=tar", commit, "--", *CODE, "template.yaml")
        with tarfile.open(fileobj=BytesIO(archive)) as packed:
            packed.extractall(folder, filter="data")
        yield Path(folder)


@contextmanager
def served(root: Path, resources: Mapping[str, str]) -> Iterator[Served]:
    """Serves the version under `root` with the defaults of its own template and these resources."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root / "layers/turnlog/python")}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # into no folder that a build packs
    for function in _FUNCTIONS:
        environment |= deployed.environment(function, root / "template.yaml")
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("serve_version.py")), str(root)],
        env={**environment, **resources},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Served(process)
    finally:
        process.communicate()


def new_resources(endpoint: str, claude_url: str) -> dict[str, str]:
    """Makes on MiniStack all that the handlers need, and returns the environment that names it."""
    account = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}

    def client(service: str) -> Any:
        return boto3.client(service, endpoint_url=endpoint, **account)  # type: ignore[call-overload]

    tables = {name: f"versions-{name}" for name in ("sessions", "usage", "keys")}
    for table in tables.values():
        client("dynamodb").create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        )
    secrets = [
        client("secretsmanager").create_secret(Name=name, SecretString=f"the secret {name}")["ARN"]
        for name in ("versions-server-key", "versions-claude-key")
    ]
    client("logs").create_log_group(logGroupName="versions-audit")
    client("s3").create_bucket(Bucket="versions-documents")
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": account["region_name"],
        "AWS_ACCESS_KEY_ID": account["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": account["aws_secret_access_key"],
        "SESSIONS_TABLE": tables["sessions"],
        "USAGE_TABLE": tables["usage"],
        "KEYS_TABLE": tables["keys"],
        "CONTENT_KEY": client("kms").create_key()["KeyMetadata"]["KeyId"],
        "SERVER_KEY_SECRET": secrets[0],
        "CLAUDE_KEY_SECRET": secrets[1],
        "CLAUDE_BASE_URL": claude_url,
        "ENVIRONMENT": "local",
        "AUDIT_LOG_GROUP": "versions-audit",
        "DOCUMENTS_BUCKET": "versions-documents",
        "TOKEN_ISSUER": "http://127.0.0.1/",
        "TOKEN_JWKS_URL": "http://127.0.0.1/keys",
        "TOKEN_AUDIENCE": "turnlog",
        "TOOL_FUNCTIONS": "documents=versions-documents-tool",
    }


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout  # noqa: S607 (any git)

"""The texts of a stack that is ready: for a person on the screen, for a script in run.json."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local.stack import Deployed
from local.state import ROOT
from local.token import claims_of, owner_of

sys.path.append(str(ROOT / "layers" / "turnlog" / "python"))  # Lambda mounts it; here nobody does
from turnlog.domain.owners import owner_hash


@dataclass(frozen=True, slots=True)
class Facts:
    """A stack that is ready. `claude` is `stand-in` or a base URL; `claude_url` is the address that functions ask."""

    api_url: str
    token: str
    user: str
    claude: str
    claude_url: str
    deployed: Deployed

    @property
    def base_url(self) -> str:
        """The address for Anthropic's own clients, which add the rest of the path themselves."""
        return self.api_url.removesuffix("/v1")

    @property
    def hours(self) -> str:
        """The token's life in words."""
        claims = claims_of(self.token)
        hours = round((claims["exp"] - claims["iat"]) / 3600)
        return "an hour" if hours == 1 else f"{hours} hours"

    @property
    def owner(self) -> str:
        """The user's name in keys and prefixes."""
        return owner_hash(owner_of(self.token))


def calls(api: str) -> list[str]:
    """Lines for a shell that has TOKEN: a function, a query, a session and two turns in it."""
    its_id = "python3 -c 'import json,sys; print(json.load(sys.stdin)[\"session_id\"])'"
    return [
        'ask() { curl -s -H "Authorization: Bearer $TOKEN" -H \'Content-Type: application/json\' "$@"; }',
        f"""ask {api}/query -d '{{"message":"What is a heron?"}}'""",
        f"SID=$(ask {api}/sessions -d '{{}}' | {its_id})",
        f"""ask {api}/sessions/$SID/turns -H 'Idempotency-Key: 1' -d '{{"message":"My name is Ada."}}'""",
        f"""ask {api}/sessions/$SID/turns -H 'Idempotency-Key: 2' -d '{{"message":"What is my name?"}}'""",
    ]


def streaming_calls(facts: Facts) -> list[str]:
    """Lines for the same shell: a query as it comes, and the two settings of Anthropic's own clients."""
    return [
        f"""ask -N {facts.api_url}/query/stream -d '{{"message":"What is a heron?"}}'""",
        f"export ANTHROPIC_BASE_URL={facts.base_url} ANTHROPIC_AUTH_TOKEN=$TOKEN",
    ]


def document_calls(bucket: str, owner: str) -> list[str]:
    """Lines for a shell: a document of the owner goes into the bucket, and its summary is read."""
    return [
        's3() { curl -s --aws-sigv4 aws:amz:us-east-1:s3 --user test:test "$@"; }',
        f"s3 -T README.md {bucket}/inbox/{owner}/readme.md",
        f"sleep 3; s3 {bucket}/outbox/{owner}/readme.md.summary.json",
    ]


def message(facts: Facts) -> str:
    """Returns the address, the token and lines to paste."""
    api, user, owner = facts.api_url, facts.user, facts.owner
    bucket = f"{facts.base_url}/{facts.deployed.outputs['DocumentsBucketName']}"
    lines, documents = "\n".join(calls(api)), "\n".join(document_calls(bucket, owner))
    streaming = "\n".join(streaming_calls(facts))
    return f"""
Turnlog: {api}
Claude:  {facts.claude}

A token of the user {user} for {facts.hours}, to paste into another shell (`make token USER=ada` prints another user's):
TOKEN={facts.token}

Then a query, a session, and two turns in it. The same key gives the same reply again; a new key takes the next turn.
{lines}

The reply as it comes, and the settings of Anthropic's own clients, which docs/clients.md has examples for:
{streaming}

A .txt or .md document that is put under inbox/{owner}/ has its summary under outbox/ soon after:
{documents}

Ctrl-C stops everything. Each request is a line:
"""


def run_json(facts: Facts, aws_endpoint: str, pids: Sequence[int]) -> dict[str, Any]:
    """Returns what scripts read in run.json."""
    return {
        "api_url": facts.api_url,
        "base_url": facts.base_url,
        "token": facts.token,
        "user": facts.user,
        "owner": facts.owner,
        "claude": facts.claude,
        "claude_url": facts.claude_url,
        "issuer": owner_of(facts.token).partition("|")[0],
        "aws_endpoint": aws_endpoint,
        "outputs": dict(facts.deployed.outputs),
        "tables": dict(facts.deployed.named("AWS::DynamoDB::Table")),
        "queues": dict(facts.deployed.named("AWS::SQS::Queue")),
        "buckets": dict(facts.deployed.named("AWS::S3::Bucket")),
        "secrets": dict(facts.deployed.named("AWS::SecretsManager::Secret")),
        "log_groups": dict(facts.deployed.named("AWS::Logs::LogGroup")),
        "pids": list(pids),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }

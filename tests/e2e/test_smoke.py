"""The smoke test against the running stack: every line is ok, and nothing stays behind."""

from __future__ import annotations

from dataclasses import replace

import httpx2
import jwt

from tests.e2e.stack import PATIENCE_S, Stack
from tests.smoke import Target, run
from turnlog.domain.owners import owner_hash


def test_the_smoke_test_passes_and_leaves_nothing_behind(stack: Stack) -> None:
    token, lines = stack.token_of("smoke"), list[str]()
    assert run(Target(stack.api_url, token, state=stack.state), lines.append), "\n".join(lines)
    assert [line.split()[0] for line in lines if line[17:25].strip() != "ok"] == ["TLS"]
    (throttle,) = [line for line in lines if line.startswith("throttle")]
    assert "1000 a second" in throttle
    headers = {"Authorization": f"Bearer {token}"}
    listed = httpx2.get(f"{stack.api_url}/sessions", headers=headers, timeout=PATIENCE_S)
    assert listed.json()["items"] == []
    claims = jwt.decode(token, options={"verify_signature": False})
    folder = owner_hash(f"{claims['iss']}|{claims['sub']}")
    for area in ("inbox", "outbox"):
        found = stack.s3.list_object_versions(Bucket=stack.bucket, Prefix=f"{area}/{folder}/")
        assert not found.get("Versions") and not found.get("DeleteMarkers")


def test_the_smoke_test_fails_where_claude_does(stack: Stack) -> None:
    stack.fail("rate_limit", retry_after_s=120, match="one word")
    lines: list[str] = []
    target = Target(stack.api_url, stack.token_of("smoke"), state=stack.state)
    assert not run(replace(target, state=stack.state / "none"), lines.append)
    assert [line.split("  ")[0] for line in lines if "FAILED" in line[:25]] == ["query", "in all"], "\n".join(lines)

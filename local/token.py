"""A token for a user of the stack on this machine.

`python -m local.token --user ada` prints a token that the stack of the same state folder accepts. With
`--roles "admin admin:content"` it is an administrator's.
"""

from __future__ import annotations

import argparse
import base64
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt

from local.aws.user_pool import pool_of
from local.issuer import Issuer
from local.stack import Aws
from local.state import StateFolder


class NoIssuer(Exception):
    """There is nobody yet who could sign a token. The message says who will."""


def claims_of(token: str) -> dict[str, Any]:
    """Returns what the token says. It is not checked."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def owner_of(token: str) -> str:
    """Returns the owner that Turnlog reads in the token, `iss|sub`."""
    claims = claims_of(token)
    return f"{claims['iss']}|{claims['sub']}"


def _token(state: StateFolder, user: str, roles: Sequence[str]) -> str:
    """Returns a token of the user pool if the running stack has one, else one of the development issuer."""
    running = state.read(state.run_json)
    if pool := pool_of(running.get("outputs", {}), lambda: Aws(running["aws_endpoint"]).client("cognito-idp")):
        return pool.token_at_once(user, roles)
    ports = state.ports()
    if not state.issuer_key.exists() or ports is None:
        raise NoIssuer(f"There is no token issuer in {state.path} yet: `make run` makes one.")
    return Issuer(state.issuer_key, ports.issuer).token(user, datetime.now(UTC), roles)


def main() -> int:
    """Prints a token, and on stderr the user's name for administrators. Returns 1 when the stack has never run."""
    parser = argparse.ArgumentParser(prog="python -m local.token", description="A token for a user of the stack.")
    parser.add_argument("--user", default="me")
    parser.add_argument("--roles", default="", help="such as 'admin admin:content'")
    parser.add_argument("--state", type=Path, default=Path(".turnlog"))
    asked = parser.parse_args()
    if not asked.user.strip() or not asked.user.isprintable() or len(asked.user) > 200:
        print("A user's name is 1 to 200 printable characters.", file=sys.stderr)
        return 1
    try:
        token = _token(StateFolder(asked.state), asked.user, asked.roles.split())
    except NoIssuer as error:
        print(error, file=sys.stderr)
        return 1
    owner = base64.urlsafe_b64encode(owner_of(token).encode()).rstrip(b"=").decode()
    print(f"to administrators this user is {owner}", file=sys.stderr)
    print(token)
    return 0


if __name__ == "__main__":
    sys.exit(main())

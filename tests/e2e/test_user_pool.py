"""`make run ISSUER=cognito`: the stack believes the access tokens of its own user pool, as on AWS without an issuer.

The last module but one of this folder by its name, since the stack is deployed anew for it.
"""

from __future__ import annotations

import os
import subprocess
import sys

import jwt
import pytest

from local.stack import REGION, Aws
from tests.e2e.stack import ROOT, Stack


@pytest.fixture(scope="module", autouse=True)
def _running(stack: Stack) -> None:
    """In place of the one for all modules, whose start would be in vain."""
    if stack.is_running:
        stack.stop()
    stack.start(ISSUER="cognito")


def people(stack: Stack, action: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command of `make user-aws` or `make token-aws` against this stack as if it were AWS."""
    aws = {"AWS_ENDPOINT_URL": stack.run["aws_endpoint"], "AWS_REGION": REGION}
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    return subprocess.run(
        [sys.executable, "-m", "local.aws.users", action],
        cwd=ROOT,
        env=os.environ | aws | keys | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def status(stack: Stack, method: str, path: str, token: str) -> int:
    return stack.ask(method, path, headers={"Authorization": f"Bearer {token}"}).status_code


def test_the_printed_token_is_an_access_token_of_the_pool_and_gets_answers(stack: Stack) -> None:
    claims = jwt.decode(stack.run["token"], options={"verify_signature": False})
    assert claims["iss"] == stack.run["issuer"]
    assert claims["iss"].endswith(stack.run["outputs"]["UserPoolId"])
    assert (claims["token_use"], "aud" in claims) == ("access", False)
    assert stack.ask("POST", "/query", json={"message": "What is a heron?"}).status_code == 200


def test_two_users_of_the_pool_are_two_owners(stack: Stack) -> None:
    me, eve = stack.run["user"], stack.token_of("eve")
    session = f"/sessions/{stack.new_session('Hello')}"
    assert status(stack, "GET", session, stack.token) == 200
    assert status(stack, "GET", session, eve) == 404
    assert status(stack, "GET", session, stack.token_of(me)) == 200  # by a later token


def test_a_group_of_the_pool_is_a_role(stack: Stack) -> None:
    path = "/admin/users/eA/sessions"
    assert status(stack, "GET", path, stack.token_of("ada")) == 403
    assert status(stack, "GET", path, stack.token_of("ada", "admin")) == 200


def test_an_id_token_is_not_believed(stack: Stack) -> None:
    client = Aws(stack.run["aws_endpoint"]).client("cognito-idp")
    password = people(stack, "create", TURNLOG_USER="ida").stdout.strip()
    found = client.admin_initiate_auth(
        UserPoolId=stack.run["outputs"]["UserPoolId"],
        ClientId=stack.run["outputs"]["UserPoolClientId"],
        AuthFlow="ADMIN_USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": "ida", "PASSWORD": password},
    )["AuthenticationResult"]
    assert status(stack, "GET", "/sessions", found["AccessToken"]) == 200
    assert status(stack, "GET", "/sessions", found["IdToken"]) == 401


def test_a_user_who_is_made_by_hand_gets_a_token_by_the_password(stack: Stack) -> None:
    made = people(stack, "create", TURNLOG_USER="grace hopper", ROLES="admin")
    assert made.returncode == 0, made.stderr
    asked = people(stack, "token", TURNLOG_USER="grace hopper", PASSWORD=made.stdout.strip())
    assert status(stack, "GET", "/admin/users/eA/sessions", asked.stdout.strip()) == 200


@pytest.mark.parametrize(
    ("action", "environment", "code", "seen"),
    [
        ("token", {"TURNLOG_USER": "heron", "PASSWORD": "wrong"}, 1, "not the password"),
        ("token", {"TURNLOG_USER": "heron"}, 2, "from PASSWORD"),
        ("token", {}, 2, "USER=ada"),
        ("create", {"TURNLOG_USER": "x" * 129}, 2, "128"),
        ("create", {"TURNLOG_USER": "king", "ROLES": "king"}, 1, "no role king"),
        ("token", {"TURNLOG_USER": "ada", "PASSWORD": "x", "STACK": "nope"}, 1, "no stack nope"),
    ],
    ids=str,
)
def test_a_command_that_cannot_be_obeyed_says_why(
    stack: Stack, action: str, environment: dict[str, str], code: int, seen: str
) -> None:
    answer = people(stack, action, **environment)
    assert answer.returncode == code
    assert seen in answer.stderr
    assert answer.stdout == ""


def test_a_user_is_made_once(stack: Stack) -> None:
    assert people(stack, "create", TURNLOG_USER="twice").returncode == 0
    again = people(stack, "create", TURNLOG_USER="twice")
    assert (again.returncode, again.stdout) == (1, "")
    assert "already" in again.stderr

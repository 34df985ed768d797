"""Least privilege: each function's role gives what its requests need, and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache

import pytest
from botocore.exceptions import ClientError

from tests.e2e.permission_requests import REQUESTS, Callers, Outcome
from tests.e2e.roles import Permission, Roles
from tests.e2e.stack import Stack

STATELESS = ("QueryFunction", "AnalyzeCodeFunction", "SummarizeFunction")
BY_LAMBDA = {"sqs:SendMessage"}  # Lambda uses it itself, for an event that failed; MiniStack's Lambda asks no role


@pytest.fixture(scope="module")
def roles(stack: Stack) -> Iterator[Roles]:
    with closing(Roles(stack)) as roles:
        yield roles


@pytest.fixture(scope="module")
def callers(stack: Stack) -> Iterator[Callers]:
    """Callers of a stack that counts their questions too."""
    with closing(Callers(stack)) as callers, ExitStack() as limited:
        for function in STATELESS:
            limited.enter_context(stack.with_settings(function, OWNER_TURNS_A_MINUTE="1000"))
        yield callers


@pytest.fixture(scope="module")
def refusal(roles: Roles, callers: Callers) -> Callable[[Permission], Outcome]:
    """Asks the request of a permission without that permission."""

    @cache
    def of_new_environment(function: str) -> dict[Permission, Outcome]:
        """Asks all that only a new environment needs of the same one, since its start takes long."""
        cold = {each: request for each, request in REQUESTS.items() if each.function == function and request.is_cold}
        asks = {each: request.prepare(callers) for each, request in cold.items()}
        callers.replace_environments(function)
        outcomes = {}
        for each, ask in asks.items():
            with roles.without(each):
                outcomes[each] = ask()
        return outcomes

    def refused(permission: Permission) -> Outcome:
        if REQUESTS[permission].is_cold:
            return of_new_environment(permission.function)[permission]
        ask = REQUESTS[permission].prepare(callers)
        with roles.without(permission):
            return ask()

    return refused


@pytest.mark.parametrize("permission", REQUESTS, ids=str)
def test_a_request_needs_the_permission(
    callers: Callers, refusal: Callable[[Permission], Outcome], permission: Permission
) -> None:
    request = REQUESTS[permission]
    assert refusal(permission) == request.refused
    assert request.prepare(callers)()[1] == request.code


def test_a_role_gives_no_permission_that_no_request_needs(roles: Roles) -> None:
    given = {permission for permission in roles.permissions if permission.action not in BY_LAMBDA}
    assert given == set(REQUESTS)


@pytest.mark.parametrize(
    ("function", "groups"), [("SessionFunction", ["Logs", "Audit"]), ("ConsoleFunction", ["Logs"])]
)
def test_a_function_writes_into_the_log_and_the_audit_trail_only_if_it_audits(
    stack: Stack, roles: Roles, function: str, groups: list[str]
) -> None:
    """AWS's own policy for functions lets them make log groups, and write into every one; the boundary does not."""
    another, stream = secrets.token_hex(8), secrets.token_hex(8)
    stack.logs.create_log_group(logGroupName=another)
    with roles.as_function(function) as client:
        logs = client("logs")
        for group in groups:
            logs.create_log_stream(logGroupName=roles.physical(group), logStreamName=stream)
        for group in {roles.physical("Audit"), another} - {roles.physical(group) for group in groups}:
            require_denied(lambda group=group: logs.create_log_stream(logGroupName=group, logStreamName=stream))  # type: ignore[misc]
        require_denied(lambda: logs.create_log_group(logGroupName=secrets.token_hex(8)))


def test_the_content_key_serves_who_names_one_owner_and_nothing_else(roles: Roles) -> None:
    with roles.as_function("SessionFunction") as client:
        kms, key = client("kms"), {"KeyId": roles.physical("ContentKey"), "KeySpec": "AES_256"}
        made = kms.generate_data_key(**key, EncryptionContext={"owner": "ada"})["CiphertextBlob"]
        assert kms.decrypt(CiphertextBlob=made, EncryptionContext={"owner": "ada"})["Plaintext"]
        require_denied(lambda: kms.generate_data_key(**key))
        require_denied(lambda: kms.generate_data_key(**key, EncryptionContext={"owner": "ada", "stage": "test"}))
        require_denied(lambda: kms.generate_data_key(**key, EncryptionContext={"stage": "test"}))


def require_denied(call: Callable[[], object]) -> None:
    with pytest.raises(ClientError) as refused:
        call()
    assert refused.value.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException")

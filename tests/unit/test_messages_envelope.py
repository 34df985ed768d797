"""The error envelope of the Messages API: what Anthropic's clients do with each error follows from it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import anthropic
import httpx2
import pytest

from turnlog import errors
from turnlog.entrypoints.http.problems import INTERNAL, problem_of
from turnlog.entrypoints.stream.messages.envelope import ErrorAnswer, error_event, problem_answer


def raised_by_the_sdk(answer: ErrorAnswer) -> anthropic.APIStatusError:
    """The error that Anthropic's SDK raises for this answer, after as many tries as it makes."""
    tries.clear()

    def answered(_: httpx2.Request) -> httpx2.Response:
        tries.append(1)
        return httpx2.Response(answer.status, text=answer.body.to_json(), headers=answer.headers)

    http = httpx2.Client(transport=httpx2.MockTransport(answered))
    with anthropic.Anthropic(auth_token="a", base_url="http://door", http_client=http, max_retries=1) as client:
        client._calculate_retry_timeout = lambda *_: 0.0  # type: ignore[method-assign] # no test waits
        with pytest.raises(anthropic.APIStatusError) as raised:
            client.messages.create(model="m", max_tokens=1, messages=[])
    return raised.value


tries: list[int] = []


def error_answer(error: errors.TurnlogError, request_id: str, *, has_key: bool = False) -> ErrorAnswer:
    return problem_answer(problem_of(error), request_id, error.retry_after_s, has_key=has_key)


def body_of(answer: ErrorAnswer) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(answer.body.to_json())
    return body


@pytest.mark.parametrize(
    ("error", "kind", "type_said", "is_repeated"),
    [
        (errors.InvalidRequest("wrong_type", "/model"), anthropic.BadRequestError, "invalid_request_error", False),
        (errors.Unauthorized(), anthropic.AuthenticationError, "authentication_error", False),
        (errors.Forbidden(), anthropic.PermissionDeniedError, "permission_error", False),
        (errors.ModelNotFound(), anthropic.NotFoundError, "not_found_error", False),
        (errors.ValueRefused("model_unknown"), anthropic.NotFoundError, "not_found_error", False),
        (errors.ModelRetired("claude-opus-5-5"), anthropic.NotFoundError, "not_found_error", False),
        (errors.SessionNotFound(), anthropic.NotFoundError, "not_found_error", False),
        (errors.TurnInProgress(3), anthropic.ConflictError, "conflict_error", True),
        (errors.ErasureInProgress(), anthropic.ConflictError, "conflict_error", True),
        (errors.TurnStopped(), anthropic.ConflictError, "conflict_error", False),
        (errors.ToolResultsExpected(["t"]), anthropic.ConflictError, "conflict_error", False),
        (errors.BodyTooLarge("body_too_large"), anthropic.ContentTooLargeError, "request_too_large", False),
        (errors.ContextTooLong(), anthropic.ContentTooLargeError, "request_too_large", False),
        (errors.KeyReused(), anthropic.UnprocessableEntityError, "invalid_request_error", False),
        (errors.QuotaExceeded("turns", 30), anthropic.RateLimitError, "rate_limit_error", True),
        (errors.QuotaExceeded("usd", 3600), anthropic.RateLimitError, "rate_limit_error", False),
        (errors.QuotaExceeded("usd"), anthropic.RateLimitError, "rate_limit_error", False),
        (errors.SessionLimitReached("session_turns"), anthropic.RateLimitError, "rate_limit_error", False),
        (errors.ModelUnavailable(5), anthropic.ServiceUnavailableError, "overloaded_error", True),
        (errors.ModelCreditUsedUp(), anthropic.ServiceUnavailableError, "api_error", False),
        (errors.ModelFailed(), anthropic.InternalServerError, "api_error", True),
        (errors.AttemptsExhausted(), anthropic.InternalServerError, "api_error", False),
        (errors.ModelTimeout(), anthropic.GatewayTimeoutError, "timeout_error", True),
        (errors.SessionCorrupt(), anthropic.InternalServerError, "api_error", False),
        (errors.TurnlogError(), anthropic.InternalServerError, "api_error", True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, errors.TurnlogError) else "",
)
def test_an_sdk_raises_its_own_kind_and_repeats_what_may_pass(
    error: errors.TurnlogError, kind: type[anthropic.APIStatusError], type_said: str, is_repeated: bool
) -> None:
    raised = raised_by_the_sdk(error_answer(error, "req-1"))
    assert type(raised) is kind or (kind is anthropic.InternalServerError and isinstance(raised, kind))
    assert (raised.type, raised.request_id) == (type_said, "req-1")
    assert raised.error_code == error.code
    assert len(tries) == (2 if is_repeated else 1)


def test_a_missing_token_is_said_in_the_words_of_the_sdks() -> None:
    answer = error_answer(errors.Unauthorized(), "r")
    said = body_of(answer)["error"]["message"]
    assert "auth_token" in said
    assert "ANTHROPIC_AUTH_TOKEN" in said
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "error", [errors.BodyTooLarge("body_too_large"), errors.ContextTooLong(), errors.TurnTooLarge()]
)
def test_what_is_too_large_is_said_in_the_words_that_make_a_client_shorten_it(error: errors.TurnlogError) -> None:
    answer = error_answer(error, "r")
    assert answer.status == 413
    assert "context window" in body_of(answer)["error"]["message"]


def test_a_refused_thread_has_the_form_that_a_tool_runner_looks_for() -> None:
    from anthropic.lib.threads._thread_state import _unsupported_features

    error = errors.InvalidRequest("thread_unsupported_request", "/thread", {"unsupported": ["thread"]})
    raised = raised_by_the_sdk(error_answer(error, "r"))
    assert raised.status_code == 400
    assert _unsupported_features(raised) == ["thread"]


def test_the_place_of_a_wrong_field_is_in_the_words_and_in_the_details() -> None:
    body = body_of(error_answer(errors.InvalidRequest("wrong_type", "/max_tokens"), "r"))
    assert body["error"]["message"].endswith("See /max_tokens.")
    assert body["error"]["details"] == {"error_code": "wrong_type", "pointer": "/max_tokens"}


def test_what_a_quota_says_is_in_the_details_with_the_wait() -> None:
    answer = error_answer(errors.QuotaExceeded("turns", 7), "r")
    assert body_of(answer)["error"]["details"] == {
        "error_code": "allowance_used_up",
        "limit": "turns",
        "stored": False,
        "retry_after": 7,
    }
    assert answer.headers["Retry-After"] == "7"
    assert "x-should-retry" not in answer.headers
    small = body_of(error_answer(errors.QuotaTooSmall("tokens", Decimal(5), Decimal(9)), "r"))
    assert (small["error"]["details"]["most"], small["error"]["details"]["needed"]) == ("5", "9")


def test_a_repeat_is_by_the_key_only_where_there_is_one() -> None:
    assert body_of(error_answer(errors.ModelFailed(), "r", has_key=True))["error"]["details"]["retry"] == "same-key"
    assert body_of(error_answer(errors.ModelFailed(), "r"))["error"]["details"]["retry"] == "again"


def test_an_error_after_the_first_byte_is_an_event_with_the_same_body() -> None:
    answer = problem_answer(INTERNAL, "r")
    event = error_event(answer)
    assert event.type == "error"
    assert json.loads(event.data) == body_of(answer)

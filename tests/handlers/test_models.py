"""/models: what is on offer, read by the provider's own SDK, and what this service adds."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import ModelInfo

from tests.handlers.conftest import Answered, Backstage, Call, Context, app
from turnlog import runtime
from turnlog.domain.models import MODELS

OFFERED = ("claude-sonnet-5-5", "claude-haiku-5-5", "global.anthropic.claude-opus-5", "of-another-maker")
EVENTS = [Path("events/models.json"), Path("events/models/get.json")]


def at_day(day: int) -> int:
    """The beginning of a day of November 2026."""
    return round(datetime(2026, 11, day, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture(autouse=True)
def offered(backstage: Backstage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "models", lambda: OFFERED)
    backstage.clock.now_ms = at_day(29)


def listed(call: Call, **query: str) -> Answered:
    return call("models", "GET", "/models", query={name: [value] for name, value in query.items()} or None)


def read(call: Call, model: str, **more: Any) -> Answered:
    return call("models", "GET", "/models/{model_id}", parameters={"model_id": model}, **more)


def sdk(call: Call) -> anthropic.Anthropic:
    """The provider's SDK, with this service as its base URL."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        path, query = request.url.path, dict(request.url.params)
        model = path.removeprefix("/v1/models").removeprefix("/")
        answered = read(call, model) if model else listed(call, **query)
        return httpx2.Response(answered.status, text=answered.raw, headers={"Content-Type": "application/json"})

    client = httpx2.Client(transport=httpx2.MockTransport(answer))
    return anthropic.Anthropic(api_key="k", base_url="https://turnlog.example", http_client=client, max_retries=0)


def test_a_base_url_that_ends_with_the_stage_finds_the_models_too(call: Call) -> None:
    """Anthropic's clients add /v1 to it, which is there once more then."""
    assert call("models", "GET", "/v1/models").body == call("models", "GET", "/models").body
    one = {"model_id": OFFERED[0]}
    again = call("models", "GET", "/v1/models/{model_id}", parameters=one)
    assert again.body == call("models", "GET", "/models/{model_id}", parameters=one).body


def test_the_provider_s_sdk_reads_every_page_and_every_model(call: Call) -> None:
    client = sdk(call)
    found = list(client.models.list(limit=3))
    assert [each.id for each in found] == list(OFFERED)
    for each in found:
        ModelInfo.model_validate_json(each.to_json(), strict=False)
        assert client.models.retrieve(each.id) == each
    sonnet = found[0]
    assert (sonnet.display_name, sonnet.line, sonnet.lifecycle) == ("Claude Sonnet 5.5", "sonnet", "active")
    assert (sonnet.max_input_tokens, sonnet.max_tokens) == (1_000_000, 128_000)
    assert sonnet.created_at == datetime(2026, 9, 28, tzinfo=UTC)
    assert sonnet.capabilities
    thinking = sonnet.capabilities.thinking.types
    assert (thinking.adaptive.supported, thinking.between_tools.supported) == (True, True)
    assert (thinking.disabled.supported, thinking.enabled.supported) == (False, False)


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.id)
def test_every_model_of_the_table_has_the_form_that_the_sdk_declares(
    call: Call, monkeypatch: pytest.MonkeyPatch, model: Any
) -> None:
    monkeypatch.setattr(runtime, "models", lambda: (model.id,))
    ModelInfo.model_validate_json(read(call, model.id).raw, strict=False)


def test_limits_and_prices_stand_beside_it_as_exact_decimals(call: Call) -> None:
    added = read(call, "claude-haiku-5-5").body["turnlog"]
    short, long = added["prices"]
    assert (short["above_prompt_tokens"], short["input"], short["cache_write_5m"]) == (0, "0.1", "0.125")
    assert (long["above_prompt_tokens"], long["output"], long["cache_read"]) == (100_000, "2.5", "0.05")
    assert (added["context_tokens"], added["max_tokens"], added["smallest_cached_prefix"]) == (1_000_000, 128_000, 512)
    assert Decimal(added["web_search_usd"]) * 1000 == 10
    assert added["can"]["thinking"] == ["adaptive", "disabled"]
    assert (added["retires_at"], added["successor"]) == (None, None)


def test_what_is_not_known_of_a_model_is_null(call: Call) -> None:
    body = read(call, "of-another-maker").body
    assert (body["id"], body["display_name"], body["created_at"]) == (
        "of-another-maker",
        "of-another-maker",
        "1970-01-01T00:00:00Z",
    )
    assert {body[name] for name in ("line", "max_input_tokens", "max_tokens", "capabilities", "retires_at")} == {None}
    assert set(body["turnlog"]["can"].values()) == {None}
    assert (body["turnlog"]["prices"], body["turnlog"]["max_tokens"]) == ([], 128_000)


def test_a_model_of_bedrock_has_its_own_price_and_an_unknown_end(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    monkeypatch.setattr(runtime, "models", lambda: (name,))
    body = read(call, name).body
    assert (body["id"], body["retires_at"], body["lifecycle"]) == (name, None, "active")
    assert [price["input"] for price in body["turnlog"]["prices"]] == ["3.3", "6.6"]
    assert body["turnlog"]["can"]["web_search"] is None


def test_a_model_is_listed_until_it_retires_and_then_found_by_name(
    call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "models", lambda: ("claude-sonnet-4-5", "claude-sonnet-5-5"))
    for day, names, stage in (
        (29, ["claude-sonnet-4-5", "claude-sonnet-5-5"], "deprecated"),
        (30, ["claude-sonnet-5-5"], "retired"),
    ):
        backstage.clock.now_ms = at_day(day)
        assert [each["id"] for each in listed(call).body["data"]] == names
        body = read(call, "claude-sonnet-4-5").body
        assert (body["lifecycle"], body["retires_at"]) == (stage, "2026-11-30T00:00:00Z")
        assert (body["turnlog"]["retires_at"], body["turnlog"]["successor"]) == (
            "2026-11-30T00:00:00Z",
            "claude-sonnet-5-5",
        )


@pytest.mark.parametrize(
    ("query", "first", "last", "has_more"),
    [
        ({}, 0, 3, False),
        ({"limit": "1000"}, 0, 3, False),
        ({"limit": "2"}, 0, 1, True),
        ({"limit": "2", "after_id": OFFERED[1]}, 2, 3, False),
        ({"limit": "1", "after_id": OFFERED[1]}, 2, 2, True),
        ({"limit": "2", "before_id": OFFERED[3]}, 1, 2, True),
        ({"limit": "2", "before_id": OFFERED[2]}, 0, 1, False),
    ],
)
def test_a_page_lies_after_or_before_a_model(
    call: Call, query: dict[str, str], first: int, last: int, *, has_more: bool
) -> None:
    body = listed(call, **query).body
    assert [each["id"] for each in body["data"]] == list(OFFERED[first : last + 1])
    assert (body["first_id"], body["last_id"], body["has_more"]) == (OFFERED[first], OFFERED[last], has_more)


def test_a_page_may_be_empty(call: Call) -> None:
    body = listed(call, after_id=OFFERED[3]).body
    assert body == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "x"},
        {"after_id": "claude-next"},
        {"before_id": ""},
        {"after_id": OFFERED[0], "before_id": OFFERED[2]},
    ],
)
def test_a_parameter_without_a_valid_value_is_refused(call: Call, query: dict[str, str]) -> None:
    answer = listed(call, **query)
    assert (answer.status, answer.body["code"]) == (400, "parameter_invalid")


@pytest.mark.parametrize("name", ["claude-opus-5-5", "", "..", "CLAUDE-SONNET-5-5", "claude-sonnet-5-5 ", "x" * 9999])
def test_a_model_that_is_not_offered_is_not_found_by_anybody(call: Call, name: str) -> None:
    """Knowledge of another service makes no difference."""
    answers = [read(call, name), read(call, name, secret="s" * 43), read(call, name, user="ada")]
    assert {(answer.status, answer.body["code"], answer.raw) for answer in answers} == {
        (404, "model_not_found", answers[0].raw)
    }


@pytest.mark.parametrize("example", EVENTS, ids=lambda path: path.stem)
def test_the_example_event_is_answered(backstage: Backstage, example: Path) -> None:
    answer = app("models").handler(json.loads(example.read_text()), Context())
    assert answer["statusCode"] == 200
    assert "claude-sonnet-5-5" in answer["body"]


def test_the_function_loads_neither_claude_nor_aws() -> None:
    code = """
import json, runpy, sys
handler = runpy.run_path("functions/models/app.py")["handler"]
assert handler(json.load(open("events/models.json")), None)["statusCode"] == 200
print(*({"anthropic", "boto3", "botocore.session", "httpx2", "jwt"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": "layers/turnlog/python", "CLAUDE_MODELS": "claude-sonnet-5-5"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == ""

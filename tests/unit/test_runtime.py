"""The clients that runtime makes: quiet, with enough connections, and of an SDK that can do what is asked of it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import boto3
import botocore
import pytest

from local.claude_stand_in import StandIn
from tests import deployed
from turnlog import runtime
from turnlog.adapters import telemetry
from turnlog.adapters.claude import Claude
from turnlog.domain.messages import Message, ModelRequest, ModelSettings
from turnlog.usecases import admin
from turnlog.usecases.list_sessions import READS_AT_ONCE

QUESTION = ModelRequest(ModelSettings("claude-sonnet-5-5", 100), (Message.of_text("hello"),))
make_client = runtime._client.__wrapped__


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """All that reaches the root logger, which is set up as Lambda's runtime does it."""
    lines, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(lines), root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lines
    root.removeHandler(handler)
    root.setLevel(level)


def the_key(name: str = "", *, renewed: bool = False) -> str:
    return "a key"


def test_the_library_that_calls_claude_would_log_urls(logged: io.StringIO) -> None:
    with StandIn(port=0) as provider:
        Claude(provider.url, the_key, allows_stand_in=True).reply(QUESTION, 5)
        assert provider.url in logged.getvalue()


def test_a_call_of_claude_leaves_nothing_of_libraries_in_the_log(
    logged: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StandIn(port=0) as provider:
        monkeypatch.setenv("ENVIRONMENT", "local")
        monkeypatch.setenv("CLAUDE_BASE_URL", provider.url)
        monkeypatch.setenv("CLAUDE_KEY_SECRET", "a secret")
        monkeypatch.setattr(runtime, "secret", the_key)
        monkeypatch.setattr(telemetry, "note", lambda *_, **__: None)  # our own line, which is meant to be there
        runtime.chat_model.__wrapped__().reply(QUESTION, 5)
        assert len(provider.requests) == 1
    assert logged.getvalue() == ""


def test_a_client_of_aws_leaves_nothing_in_the_log(logged: io.StringIO) -> None:
    make_client("dynamodb")
    logging.getLogger("urllib3.connectionpool").warning("Failed to parse headers (url=%s)", "https://host/canary")
    assert logged.getvalue() == ""


def test_our_own_lines_are_logged_all_the_same(monkeypatch: pytest.MonkeyPatch, logged: io.StringIO) -> None:
    own = io.StringIO()
    monkeypatch.setattr(telemetry._logger().registered_handler, "stream", own)
    telemetry.silence_libraries()
    telemetry.note("request", status=200)
    assert '"status":200' in own.getvalue()


def test_clients_are_made_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        boto3, "client", lambda service, config: made.append((service, runtime._making_client.locked()))
    )
    make_client("lambda")
    assert (made, runtime._making_client.locked()) == ([("lambda", True)], False)


def test_a_client_has_a_connection_for_each_thread_that_uses_it() -> None:
    connections = make_client("dynamodb").meta.config.max_pool_connections
    assert connections == READS_AT_ONCE >= admin._AT_ONCE


@pytest.mark.parametrize("version", ["1.35.68", "1.9.300", "0.99.99"])
def test_an_sdk_that_knows_no_condition_for_an_object_is_refused(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(botocore, "__version__", version)
    with pytest.raises(runtime.SdkTooOld, match=version):
        make_client("s3")


@pytest.mark.parametrize("version", ["1.35.69", "1.36.0", "1.100.2", "2.0.0.dev1"])
def test_that_sdk_and_any_later_one_is_taken(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(botocore, "__version__", version)
    make_client("s3")


def test_the_sdk_under_test_knows_every_condition_that_is_sent() -> None:
    def members(service: str, operation: str) -> set[str]:
        return set(make_client(service).meta.service_model.operation_model(operation).input_shape.members)

    assert {"IfMatch", "IfNoneMatch"} <= members("s3", "PutObject")
    for operation in ("PutItem", "UpdateItem", "DeleteItem"):
        assert "ReturnValuesOnConditionCheckFailure" in members("dynamodb", operation)


@pytest.fixture
def deployed_tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tools of a deployment with nothing but defaults, and of none before."""
    for name in ("TOOLS", "WEB_TOOLS"):
        monkeypatch.setenv(name, deployed.environment("QueryFunction")[name])
    monkeypatch.setenv("TOOL_FUNCTIONS", "documents=stack-documents")
    made = runtime._thread_tool_runner, runtime.offered_tools, runtime.tool_runner
    for each in made:
        each.cache_clear()
    yield
    for each in made:
        each.cache_clear()


def test_the_tools_that_ship_are_offered_and_the_web_is_not(deployed_tools: None) -> None:
    offered = runtime.offered_tools()
    assert offered.names == ["current_time", "list_documents", "read_document"]
    assert all(json.loads(each)["strict"] for each in offered.definitions.values())


def test_a_deployment_can_let_callers_use_the_web_and_offer_no_tool(
    deployed_tools: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLS", "")
    monkeypatch.setenv("WEB_TOOLS", "on")
    assert runtime.offered_tools().names == ["web_search", "web_fetch"]


def test_a_tool_that_fails_is_a_line_of_the_log_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = io.StringIO()
    monkeypatch.setattr(telemetry._logger().registered_handler, "stream", lines)
    runtime._tell_of_tool("current_time", RuntimeError("Xanary"))
    line = json.loads(lines.getvalue())
    assert (line["message"], line["code"], line["where"]) == ("tool failed", "current_time", "RuntimeError")
    assert "Xanary" not in lines.getvalue()

"""The API's document describes the service: its routes, their parameters and bodies, callers and answers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate
from samcli.yamlhelper import yaml_parse

import turnlog
from tests import documented
from tests.added_function import operation_lines
from tests.fakes import OWNER
from tests.handlers.conftest import Backstage, Call, Context, app, event
from tests.handlers.every_route import Everybody
from tests.handlers.test_authorisation import FUNCTION_OF
from tests.media import document, image, search_result, text_block, text_document, tool_result
from turnlog.entrypoints.http import bodies, document_replies, model_info, problem_body, replies, stream_events
from turnlog.entrypoints.http.openapi.operations import ANONYMOUS, OPERATIONS, USER
from turnlog.entrypoints.http.openapi.refusals import GATEWAY, TOKEN_UNCHECKED, refusals
from turnlog.entrypoints.http.replies import ResponseBody
from turnlog.entrypoints.http.request import Body, Request
from turnlog.errors import Forbidden

ROUTES = pytest.mark.parametrize("route", OPERATIONS, ids=" ".join)
STRANGER = "s" * 43


@pytest.fixture
def everybody(call: Call) -> Everybody:
    return Everybody(call)


def test_it_is_openapi_by_a_public_validator() -> None:
    validate(documented.written())


def test_it_has_the_routes_of_the_functions_and_of_the_template() -> None:
    template = yaml_parse(Path("template.yaml").read_text())["Resources"].values()
    events = [each for one in template for each in one.get("Properties", {}).get("Events", {}).values()]
    routed = {
        (each["Properties"]["Method"].upper(), each["Properties"]["Path"].removeprefix("/v1"))
        for each in events
        if each["Type"] == "Api"
    }
    written = {(method.upper(), path) for path, item in documented.written()["paths"].items() for method in item}
    preflights = {("OPTIONS", path) for _, path in written}
    missing = [operation_lines(path) for _, path in sorted(set(FUNCTION_OF) - written)]
    assert not missing, "paste into OPERATIONS of entrypoints/http/openapi/operations.py:\n" + "\n".join(missing)
    assert written == set(FUNCTION_OF)
    assert written | preflights == routed


@ROUTES
def test_each_route_reads_and_answers_as_the_document_says(
    everybody: Everybody, monkeypatch: pytest.MonkeyPatch, route: tuple[str, str]
) -> None:
    operation, read = OPERATIONS[route], Read(monkeypatch)
    answer = everybody.ask_when_ready(route)
    assert answer.status == operation.status
    named = {each["name"] for each in documented.operation(*route)["parameters"]}
    assert read.bodies == ([operation.body] if operation.body else [])
    assert set(read.parameters) == named & {"limit", "cursor", "after_id", "before_id"}
    assert read.keys == ("Idempotency-Key" in named)
    assert read.waits == ("Prefer" in named)


class Read:
    """The parts of its request that a handler reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bodies: list[Any] = []
        self.parameters: list[str] = []
        self.keys = self.waits = False
        body, query = Request.body, Request.query
        key, wait = Request.optional_idempotency_key, Request.wait_s

        def read_body(request: Request, kind: Any) -> Any:
            self.bodies.append(kind)
            return body(request, kind)

        def read_query(request: Request, *allowed: str) -> dict[str, str]:
            self.parameters += allowed
            return query(request, *allowed)

        def read_key(request: Request) -> Any:
            self.keys = True
            return key.__get__(request)

        def read_wait(request: Request) -> Any:
            self.waits = True
            return wait.__get__(request)

        monkeypatch.setattr(Request, "body", read_body)
        monkeypatch.setattr(Request, "query", read_query)
        monkeypatch.setattr(Request, "optional_idempotency_key", property(read_key))
        monkeypatch.setattr(Request, "wait_s", property(read_wait))


@ROUTES
def test_each_route_is_for_the_callers_that_the_document_names(everybody: Everybody, route: tuple[str, str]) -> None:
    callers = OPERATIONS[route].callers
    if callers:
        assert everybody.ask(route, owner=None).status == 401
    for scheme, caller in ((USER, {"owner": "https://issuer.example/|ada"}), (ANONYMOUS, {"secret": STRANGER})):
        is_refused = everybody.ask(route, **caller).status == 403
        assert is_refused == (bool(callers) and scheme not in callers)
    refused = everybody.ask(route, owner=OWNER, user="ada").status == 403
    assert refused == (not OPERATIONS[route].takes_user and (bool(callers) or route[0] == "POST"))
    roles = OPERATIONS[route].roles
    for missing in roles:
        assert everybody.ask(route, roles=" ".join(role for role in roles if role != missing)).status == 403


@ROUTES
def test_an_unforeseen_error_is_a_documented_500(
    everybody: Everybody, monkeypatch: pytest.MonkeyPatch, route: tuple[str, str]
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Request, "query", fails)
    answer = everybody.ask(route)
    assert (answer.status, answer.body["code"]) == (500, "internal_error")


@pytest.mark.parametrize("route", [route for route, each in OPERATIONS.items() if each.key is not None], ids=" ".join)
def test_a_key_is_needed_where_the_document_says_so(everybody: Everybody, route: tuple[str, str]) -> None:
    operation = OPERATIONS[route]
    answer = everybody.ask(route, key="")
    assert answer.status == (400 if operation.key else operation.status)


def test_every_example_is_what_its_schema_says() -> None:
    for path, item in documented.written()["paths"].items():
        for method, operation in item.items():
            pointer = f"#/paths/{path.replace('/', '~1')}/{method}"
            contents = [("requestBody/", operation.get("requestBody", {}))]
            contents += [(f"responses/{status}/", answer) for status, answer in operation["responses"].items()]
            for where, content in contents:
                for media_type, each in content.get("content", {}).items():
                    named = [written(example["$ref"]) for example in each.get("examples", {}).values()]
                    examples = [each["example"]] if "example" in each else [example["value"] for example in named]
                    schema = f"{pointer}/{where}content/{media_type.replace('/', '~1')}/schema"
                    assert examples
                    assert [example for example in examples if not documented.is_valid(example, schema)] == []


def written(reference: str) -> Any:
    """Returns the part of the document that a reference names."""
    found: Any = documented.written()
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return found


BLOCKS: list[dict[str, Any]] = [
    text_block(),
    image(),
    document(title="Herons", context="From a library.", citations={}),
    document(b"Herons", "text/plain"),
    text_document(),
    {"type": "document", "source": {"type": "content", "content": "Herons"}},
    {"type": "document", "source": {"type": "content", "content": [text_block(), image()]}},
    search_result(citations={"enabled": False}),
]
NO_BLOCKS: list[dict[str, Any]] = [
    {},
    {"type": "video"},
    {"type": "image"},
    {**image(), "cache_control": {"type": "ephemeral"}},
    image(media_type="image/bmp"),
    {"type": "image", "source": {"type": "url", "url": "https://birds.example/"}},
    {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
    {"type": "document", "source": {"type": "content", "content": [document()]}},
    document(title=None),
    document(title="x" * 501),
    document(citations={"enabled": "yes"}),
    search_result(content=[]),
    search_result(content=[image()]),
    {"type": "search_result", "source": "a", "title": "b"},
    tool_result(),
]


def test_schema_and_service_take_the_same_blocks(call: Call) -> None:
    for path, blocks in (("/query", BLOCKS), ("/sessions/{id}/turns", [tool_result(content=BLOCKS), *BLOCKS])):
        body = f"#/paths/{path.replace('/', '~1')}/post/requestBody/content/application~1json/schema"
        assert documented.is_valid({"message": blocks}, body)
    assert call("query", "POST", "/query", {"message": BLOCKS}).status == 200


def test_schema_and_service_refuse_the_same_bodies(call: Call) -> None:
    body = "#/paths/~1query/post/requestBody/content/application~1json/schema"
    cases: list[dict[str, Any]] = [
        {},
        {"message": ""},
        {"message": []},
        {"message": None},
        {"message": [{"type": "text", "text": "a", "more": 1}]},
        {"message": "a", "max_tokens": 0},
        {"message": "a", "max_tokens": 16_001},
        {"message": "a", "model": None},
        {"message": "a", "stop_sequences": ["x"] * 9},
        {"message": "a", "stop_sequences": ["x" * 101]},
        {"message": "a", "owner": "eve"},
    ]
    cases += [{"message": [block]} for block in NO_BLOCKS]
    for case in cases:
        assert call("query", "POST", "/query", case).status in (400, 422)
        assert not documented.is_valid(case, body), case
    assert documented.is_valid({"message": "a", "max_tokens": 16_000, "stop_sequences": ["x" * 100] * 8}, body)


def test_the_gateways_own_answers_are_those_of_the_template() -> None:
    responses = yaml_parse(Path("template.yaml").read_text())["Resources"]["Api"]["Properties"]["GatewayResponses"]
    said = [
        json.loads(each["ResponseTemplates"]["application/json"]) for each in responses.values() if "StatusCode" in each
    ]
    of_messages = {"error", "request_id"}  # of the Messages API's clients, and in no problem of a function
    problems = [{name: value for name, value in each.items() if name not in of_messages} for each in said]
    theirs = {
        json.dumps(each | {"instance": ""}, sort_keys=True) for each in problems if each["code"] != "route_not_found"
    }
    ours = [
        *GATEWAY,
        TOKEN_UNCHECKED,
        *(each for each in refusals(OPERATIONS["POST", "/query"]) if each["status"] in (401, 500)),
    ]
    assert {json.dumps(each | {"instance": ""}, sort_keys=True) for each in ours} == theirs


def test_every_field_and_parameter_is_explained() -> None:
    def look(schema: Any) -> None:
        for name, each in schema.get("properties", {}).items():
            assert each.get("description"), name
            look(each)
            look({} if name in ("content", "message", "results") else each.get("items", {}))  # blocks are Claude's

    for schema in documented.written()["components"]["schemas"].values():
        assert schema["description"]
        look(schema)
    for route in OPERATIONS:
        assert all(each["description"] for each in documented.operation(*route)["parameters"])


def test_every_model_of_a_body_is_in_the_document() -> None:
    models = {
        name
        for module in (bodies, document_replies, model_info, problem_body, replies, stream_events)
        for name, each in vars(module).items()
        if isinstance(each, type) and issubclass(each, Body | ResponseBody) and not name.startswith("_")
    }
    assert models - {"Body", "SessionBody", "ResponseBody", "AnyReply"} == set(
        documented.written()["components"]["schemas"]
    )


def test_requests_may_have_no_other_fields_and_answers_may() -> None:
    for name, schema in documented.written()["components"]["schemas"].items():
        is_request = name.endswith("Body")
        assert schema.get("additionalProperties", True) is not is_request, name


def test_the_judge_sees_what_nobody_described(call: Call) -> None:
    good = call("console", "GET", "/health", owner=None)
    documented.expect("GET", "/health", good.status, good.headers, good.body)
    for changed in (
        (404, good.headers, good.body),
        (200, good.headers, good.body | {"more": 1}),
        (200, good.headers, {"status": "ok"}),
        (200, {**good.headers, "Location": "/"}, good.body),
        (200, {**good.headers, "Content-Type": "text/html"}, good.body),
        (200, good.headers, None),
    ):
        with pytest.raises(AssertionError):
            documented.expect("GET", "/health", *changed)


@ROUTES
def test_an_answer_without_a_body_has_no_type_of_one(everybody: Everybody, route: tuple[str, str]) -> None:
    answer = everybody.ask(route)
    assert ("Content-Type" in answer.headers) == (answer.status != 204)


class TestTheConsole:
    def test_the_example_event_learns_that_the_service_answers_and_its_version(self, backstage: Backstage) -> None:
        answer = app("console").handler(event("console"), Context())
        version = tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"]
        assert (answer["statusCode"], json.loads(answer["body"])) == (200, {"status": "ok", "version": version})
        assert turnlog.__version__ == version

    def test_anybody_gets_the_document(self, call: Call) -> None:
        answer = call("console", "GET", "/openapi.json", owner=None)
        assert answer.body == json.loads(json.dumps(documented.written()))

    @pytest.mark.parametrize("path", ["/health", "/openapi.json"])
    def test_a_parameter_is_refused_as_everywhere(self, call: Call, path: str) -> None:
        answer = call("console", "GET", path, owner=None, query={"verbose": ["1"]})
        assert (answer.status, answer.body["code"]) == (400, "parameter_unknown")

    def test_it_needs_neither_settings_nor_aws_nor_claude(self) -> None:
        code = """
import json, runpy, sys
handler = runpy.run_path("functions/console/app.py")["handler"]
event = json.load(open("events/console.json"))
assert handler(event, None)["statusCode"] == 200
assert handler(event | {"resource": "/openapi.json"}, None)["statusCode"] == 200
print(*({"anthropic", "boto3", "botocore.session", "httpx2", "jwt"} & set(sys.modules)))
"""
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": "layers/turnlog/python"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == ""


def test_every_route_but_the_public_ones_lists_401() -> None:
    for route, operation in OPERATIONS.items():
        written_one = documented.operation(*route)
        assert [next(iter(each)) for each in written_one["security"]] == list(operation.callers)
        assert ("401" in written_one["responses"]) == bool(operation.callers)


def test_every_operation_lists_the_gateways_refusals_that_can_come() -> None:
    for route, operation in OPERATIONS.items():
        listed = set(documented.operation(*route)["responses"])
        assert {"400", "429", "500", "503", "504"} <= listed
        for_bodies = {"413", "415"} if operation.body else set()
        assert listed & {"413", "415"} == for_bodies, route
        knows_callers = operation.callers or any(isinstance(each, Forbidden) for each in operation.errors)
        assert ("403" in listed) == bool(knows_callers), route


def test_it_says_where_the_api_is_and_under_which_licence() -> None:
    assert documented.written()["info"]["license"] == {"name": "MIT", "identifier": "MIT"}
    assert Path("LICENSE").read_text().startswith("MIT License")
    (server,) = documented.written()["servers"]
    assert server["url"].startswith("https://")
    assert set(re.findall(r"{(\w+)}", server["url"])) == set(server["variables"])
    assert server["url"].endswith("/v1")


def test_every_operation_has_one_tag_and_every_tag_is_explained_and_used() -> None:
    tags = {each["name"] for each in documented.written()["tags"] if each["description"]}
    used = [each["tags"] for item in documented.written()["paths"].values() for each in item.values()]
    assert {len(each) for each in used} == {1}
    assert {each[0] for each in used} == tags


def test_names_of_operations_are_unlike() -> None:
    names = [operation.name for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)

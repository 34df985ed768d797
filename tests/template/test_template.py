"""Rules for every resource that is deployed; linters see little of them."""

from __future__ import annotations

import io
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import httpx2
import pytest
from anthropic import Anthropic
from samtranslator.model import apigateway

from tests import deployed, documented
from tests.added_function import alarm_line, preflight_line, single_turn_functions
from tests.fakes import HeldClock
from tests.handlers import test_admin
from tests.handlers.conftest import Context, app, event
from tests.template.conftest import OfType, Resource, transform
from turnlog import runtime
from turnlog.adapters import telemetry
from turnlog.adapters.local.memory import MemorySessionStore
from turnlog.config import GatewaySettings, PassingSettings
from turnlog.domain.models import MODELS
from turnlog.domain.prices import PRICES
from turnlog.entrypoints.http.bodies import SHORTEST_IDLE_S
from turnlog.entrypoints.http.problems import WORDINGS
from turnlog.entrypoints.http.request import MOST_WAIT_S
from turnlog.errors import ModelCreditUsedUp, ModelNotServed, ModelRetired
from turnlog.usecases.held_lease import LEASE_S
from turnlog.usecases.renewal import RENEW_EVERY_S

TAKE_TURNS = {"SessionFunction", "StreamFunction"}
ASK_CLAUDE = {*single_turn_functions(), *TAKE_TURNS, "SummarizeUploadFunction"}
RUN_TOOLS = {"QueryFunction", *TAKE_TURNS}
KEEP_SESSIONS = TAKE_TURNS | {"AnonymousFunction", "SweepFunction", "AccountFunction", "AdminFunction"}
COUNT_USE = {*single_turn_functions(), *TAKE_TURNS, "AnonymousFunction"}
ENCRYPT = {*TAKE_TURNS, "AnonymousFunction"}
DECRYPT = {"AccountFunction", "AdminFunction"}
USE_SERVER_KEY = TAKE_TURNS | {"AnonymousFunction", "QueryFunction", "AccountFunction", "AdminFunction"}
STATELESS = ASK_CLAUDE - KEEP_SESSIONS | {"AuthorizerFunction", "ConsoleFunction", "ModelsFunction"}
PUBLIC_ROUTES = {("POST", "/anonymous/sessions"), ("GET", "/health"), ("GET", "/openapi.json")}
LAYERS = ["layers/dependencies/requirements.txt", "layers/stream/requirements.txt"]
LOCKS = ["requirements.lock", *LAYERS, "local/ministack.lock"]
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
    504: "timeout_error",
}
"""The kinds of errors of the Messages API, by status."""
STREAMED = {
    ("POST", path)
    for path in (
        *("/query/stream", "/analyze/stream", "/summarize/stream", "/sessions/{id}/turns/stream"),
        *("/messages", "/messages/count_tokens", "/v1/messages", "/v1/messages/count_tokens"),
    )
}
LONGEST_STREAM_S = 900  # API Gateway's limit, and Lambda's
METHODS = {"get", "put", "post", "delete", "patch", "head", "options"}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.fixture(scope="session")
def functions(of_type: OfType) -> dict[str, Resource]:
    return {name: each["Properties"] for name, each in of_type("AWS::Lambda::Function").items()}


@pytest.fixture(scope="session")
def statements(transformed: dict[str, Any], functions: dict[str, Resource]) -> dict[str, list[dict[str, Any]]]:
    """The statements of each function's role, inline or from a managed policy of this stack."""
    resources = transformed["Resources"]
    found: dict[str, list[dict[str, Any]]] = {}
    for name in functions:
        role = resources[f"{name}Role"]["Properties"]
        documents = [policy["PolicyDocument"] for policy in role.get("Policies", [])]
        managed = [each["Ref"] for each in role["ManagedPolicyArns"] if isinstance(each, dict)]
        documents += [resources[each]["Properties"]["PolicyDocument"] for each in managed]
        found[name] = [statement for document in documents for statement in listed(document["Statement"])]
    return found


@pytest.fixture(scope="session")
def api(of_type: OfType) -> dict[str, Any]:
    (only,) = of_type("AWS::ApiGateway::RestApi").values()
    properties: dict[str, Any] = only["Properties"]
    return properties


@pytest.fixture(scope="session")
def stage(of_type: OfType) -> dict[str, Any]:
    (only,) = of_type("AWS::ApiGateway::Stage").values()
    properties: dict[str, Any] = only["Properties"]
    return properties


@pytest.fixture(scope="session")
def responses(api: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The gateway's own answers, by its name for the reason."""
    found: dict[str, dict[str, Any]] = api["Body"]["x-amazon-apigateway-gateway-responses"]
    return found


@pytest.fixture(scope="session")
def alarms(of_type: OfType) -> dict[str, Resource]:
    return {name: each["Properties"] for name, each in of_type("AWS::CloudWatch::Alarm").items()}


@pytest.fixture(scope="session")
def routes(api: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """The operation of each route, without the preflight requests of browsers."""
    return {
        (method.upper(), path): operation
        for path, operations in api["Body"]["paths"].items()
        for method, operation in operations.items()
        if method != "options"
    }


def actions(statements: list[dict[str, Any]]) -> Iterator[str]:
    for statement in statements:
        yield from listed(statement["Action"])


def wild(statement: dict[str, Any]) -> bool:
    """True when a statement names an action or a resource by a star alone, or by exclusion."""
    named = [each for key in ("Action", "Resource") for each in listed(statement.get(key, "*"))]
    return any(each == "*" or (isinstance(each, str) and re.fullmatch(r"[a-z0-9]+:.*\*", each)) for each in named)


def deployments(transformed: dict[str, Any]) -> set[str]:
    """The names of the API's deployments; another name is what brings a change to the stage."""
    return {name for name, each in transformed["Resources"].items() if each["Type"] == "AWS::ApiGateway::Deployment"}


def another_origin(template: dict[str, Any]) -> None:
    template["Parameters"]["CorsOrigin"]["Default"] = "https://app.example"


def another_gateway_response(template: dict[str, Any]) -> None:
    responses = template["Resources"]["Api"]["Properties"]["GatewayResponses"]
    responses["THROTTLED"] = responses["THROTTLED"] | {"StatusCode": 503}


def _leaves(node: Any) -> Iterator[tuple[str, Any]]:
    """The name and value of every leaf, at any depth."""
    if isinstance(node, dict):
        for name, each in node.items():
            yield name, each
            yield from _leaves(each)
    elif isinstance(node, list):
        for each in node:
            yield from _leaves(each)


class TestRoles:
    def test_each_function_has_a_role_of_its_own(self, functions: dict[str, Resource]) -> None:
        assert {name: each["Role"] for name, each in functions.items()} == {
            name: {"Fn::GetAtt": [f"{name}Role", "Arn"]} for name in functions
        }

    def test_no_role_has_a_wildcard(self, statements: dict[str, list[dict[str, Any]]]) -> None:
        for owned in statements.values():
            assert not [action for action in actions(owned) if "*" in action]
            assert not [each for each in owned if "*" in listed(each["Resource"])]

    def test_what_aws_itself_grants_a_function_is_to_run_and_to_be_traced(
        self, transformed: dict[str, Any], functions: dict[str, Resource]
    ) -> None:
        for name in functions:
            arns = transformed["Resources"][f"{name}Role"]["Properties"]["ManagedPolicyArns"]
            theirs = {arn.rpartition("/")[2] for arn in arns if isinstance(arn, str)}
            assert theirs == {"AWSLambdaBasicExecutionRole", "AWSXrayWriteOnlyAccess"}, name

    def test_a_function_can_write_into_turnlogs_own_log_groups_alone(
        self, transformed: dict[str, Any], functions: dict[str, Resource], of_type: OfType
    ) -> None:
        for name in functions:
            role = transformed["Resources"][f"{name}Role"]["Properties"]
            audits = {"Ref": "AuditPolicy"} in role["ManagedPolicyArns"]
            bounded_by = "FunctionBoundary" if audits else "UnauditedFunctionBoundary"
            assert role["PermissionsBoundary"] == {"Ref": bounded_by}, name
        for name, groups in (("FunctionBoundary", {"Logs", "Audit"}), ("UnauditedFunctionBoundary", {"Logs"})):
            boundary = of_type("AWS::IAM::ManagedPolicy")[name]["Properties"]["PolicyDocument"]
            others, logs = boundary["Statement"]
            assert others == {"Effect": "Allow", "NotAction": "logs:*", "Resource": "*"}
            assert set(logs["Action"]) == {"logs:CreateLogStream", "logs:PutLogEvents"}
            assert {re.findall(r"Logs|Audit", json.dumps(each))[0] for each in logs["Resource"]} == groups
        attached = json.dumps([each["Properties"]["ManagedPolicyArns"] for each in of_type("AWS::IAM::Role").values()])
        assert "FunctionBoundary" not in attached  # a boundary that is attached would grant everything

    def test_a_wildcard_stands_only_where_a_reason_stands_beside_it(self, of_type: OfType) -> None:
        kinds = ["IAM::Role", "IAM::ManagedPolicy", "KMS::Key", "S3::BucketPolicy", "SQS::QueuePolicy"]
        found = set()
        for kind in kinds:
            for name, each in of_type(f"AWS::{kind}").items():
                properties = each["Properties"]
                documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
                documents += [properties[key] for key in ("PolicyDocument", "KeyPolicy") if key in properties]
                if any(wild(statement) for document in documents for statement in listed(document["Statement"])):
                    found.add(name)
        # A boundary grants nothing, the keys' policies speak of these keys alone, the bucket's denies.
        assert found == {"FunctionBoundary", "UnauditedFunctionBoundary", "Key", "ContentKey", "DocumentsBucketPolicy"}

    def test_the_key_opens_only_to_this_account_and_only_through_what_stores_or_logs(self, of_type: OfType) -> None:
        key = of_type("AWS::KMS::Key")["Key"]
        administration, *others = key["Properties"]["KeyPolicy"]["Statement"]
        assert "root" in json.dumps(administration["Principal"])
        for statement in others:
            assert "kms:*" not in listed(statement["Action"])
        unbounded = [each for each in others if "AWS::AccountId" not in json.dumps(each.get("Condition"))]
        (events,) = (
            unbounded  # EventBridge names neither account nor rule to a key; a condition on them loses dead letters
        )
        assert events["Principal"] == {"Service": "events.amazonaws.com"}
        assert events["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]

    def test_the_admin_function_can_delete_sessions_and_neither_create_nor_charge(
        self, statements: dict[str, list[dict[str, Any]]]
    ) -> None:
        owned = statements["AdminFunction"]
        assert not {"dynamodb:UpdateItem", "dynamodb:ConditionCheckItem"} & set(actions(owned))
        assert not re.search("ClaudeKey|UsageTable|documents", json.dumps(owned))

    def test_the_function_of_document_tools_can_read_uploads_and_reach_nothing_else(
        self, statements: dict[str, list[dict[str, Any]]], functions: dict[str, Resource]
    ) -> None:
        reading, listing = statements["DocumentsToolFunction"]
        assert reading == {
            "Effect": "Allow",
            "Action": "s3:GetObject",
            "Resource": {"Fn::Sub": "${DocumentsBucket.Arn}/inbox/*"},
        }
        assert listing["Action"] == "s3:ListBucket"
        assert listing["Condition"] == {"StringLikeIfExists": {"s3:prefix": "inbox/*"}}
        told = functions["DocumentsToolFunction"]["Environment"]["Variables"]
        assert not {"SESSIONS_TABLE", "KEYS_TABLE", "SERVER_KEY_SECRET", "CONTENT_KEY"} & set(told)

    def test_only_functions_with_tools_run_them_and_only_the_function_of_tools(
        self, statements: dict[str, list[dict[str, Any]]], functions: dict[str, Resource]
    ) -> None:
        running = {name: owned for name, owned in statements.items() if "lambda:InvokeFunction" in set(actions(owned))}
        assert set(running) == RUN_TOOLS
        for owned in running.values():
            (one,) = [each for each in owned if "lambda:" in json.dumps(each)]
            assert one["Action"] == "lambda:InvokeFunction"
            assert one["Resource"] == {"Fn::GetAtt": ["DocumentsToolFunction", "Arn"]}
        documents = [name for name, owned in statements.items() if "DocumentsBucket" in json.dumps(owned)]
        assert not set(running) & set(documents)
        assert {name for name, each in functions.items() if "TOOLS" in each["Environment"]["Variables"]} == set(running)

    def test_no_role_can_scan_or_change_the_table(self, statements: dict[str, list[dict[str, Any]]]) -> None:
        for owned in statements.values():
            assert not {"dynamodb:Scan", "dynamodb:DeleteTable", "dynamodb:UpdateTimeToLive"} & set(actions(owned))

    def test_only_functions_that_keep_sessions_reach_their_table(
        self, statements: dict[str, list[dict[str, Any]]]
    ) -> None:
        reach = {name for name, owned in statements.items() if "SessionsTable" in json.dumps(owned)}
        assert reach == KEEP_SESSIONS

    def test_the_anonymous_function_can_create_sessions_and_not_delete_them(
        self, statements: dict[str, list[dict[str, Any]]]
    ) -> None:
        own = [each for each in statements["AnonymousFunction"] if "SessionsTable" in json.dumps(each["Resource"])]
        assert set(actions(own)) == {"dynamodb:Query", "dynamodb:PutItem", "dynamodb:ConditionCheckItem"}

    def test_the_function_that_streams_takes_turns_and_cannot_change_or_stop_any(
        self, statements: dict[str, list[dict[str, Any]]]
    ) -> None:
        own = [each for each in statements["StreamFunction"] if "SessionsTable" in json.dumps(each["Resource"])]
        writing = {"dynamodb:PutItem", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem"}
        assert set(actions(own)) == writing | {"dynamodb:Query", "dynamodb:GetItem", "dynamodb:ConditionCheckItem"}

    def test_the_table_of_what_owners_used_is_only_counted_in_and_erased_from(
        self, statements: dict[str, list[dict[str, Any]]]
    ) -> None:
        counting = {
            name: sorted(
                action for each in owned if "UsageTable" in json.dumps(each) for action in listed(each["Action"])
            )
            for name, owned in statements.items()
        }
        erasing = {"AccountFunction": ["dynamodb:BatchWriteItem", "dynamodb:Query"]}
        moving = {"SessionFunction": ["dynamodb:ConditionCheckItem", "dynamodb:UpdateItem"]}
        assert {name: acts for name, acts in counting.items() if acts} == (
            {name: ["dynamodb:UpdateItem"] for name in COUNT_USE} | erasing | moving
        )

    def test_only_functions_that_encrypt_reach_content_keys_and_only_by_owner(
        self, statements: dict[str, list[dict[str, Any]]]
    ) -> None:
        for secret in ("KeysTable", "ContentKey", "kms:"):
            reach = {name for name, owned in statements.items() if secret in json.dumps(owned)}
            assert reach == ENCRYPT | DECRYPT
        (wrapping,) = [each for each in statements["SessionFunction"] if "ContentKey" in json.dumps(each["Resource"])]
        assert wrapping["Action"] == ["kms:GenerateDataKey", "kms:Decrypt"]
        assert wrapping["Condition"] == {
            "Null": {"kms:EncryptionContext:owner": "false"},
            "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["owner"]},
        }
        (reading,) = [each for each in statements["SessionFunction"] if "KeysTable" in json.dumps(each["Resource"])]
        assert not {"dynamodb:DeleteItem", "dynamodb:BatchWriteItem"} & set(reading["Action"])

    def test_functions_that_only_read_content_can_neither_encrypt_it_nor_create_a_key(
        self, statements: dict[str, list[dict[str, Any]]]
    ) -> None:
        erasing = {"AccountFunction": {"dynamodb:Query", "dynamodb:PutItem"}}
        for name in DECRYPT:
            owned = statements[name]
            (opening,) = [each for each in owned if "ContentKey" in json.dumps(each["Resource"])]
            assert opening["Action"] == "kms:Decrypt"
            assert opening["Condition"]["Null"] == {"kms:EncryptionContext:owner": "false"}
            keys = {
                act for each in owned if "KeysTable" in json.dumps(each["Resource"]) for act in listed(each["Action"])
            }
            assert keys == {"dynamodb:GetItem"} | erasing.get(name, set())

    def test_every_function_behind_the_gateway_can_only_add_to_the_audit_trail(
        self, statements: dict[str, list[dict[str, Any]]]
    ) -> None:
        adding = {
            name: listed(each["Action"])
            for name, owned in statements.items()
            for each in owned
            if "Audit" in json.dumps(each["Resource"])
        }
        reached = set(statements) - {
            "SweepFunction",
            "SummarizeUploadFunction",
            "ConsoleFunction",
            "DocumentsToolFunction",
        }
        assert adding == {name: ["logs:CreateLogStream", "logs:PutLogEvents"] for name in reached}

    def test_only_functions_that_ask_claude_can_read_its_key(self, statements: dict[str, list[dict[str, Any]]]) -> None:
        assert {name for name, owned in statements.items() if '{"Ref": "ClaudeKey"}' in json.dumps(owned)} == ASK_CLAUDE

    def test_the_console_has_no_rights_at_all(self, statements: dict[str, list[dict[str, Any]]]) -> None:
        assert statements["ConsoleFunction"] == []

    def test_only_functions_that_hash_or_encrypt_can_read_the_server_key(
        self, statements: dict[str, list[dict[str, Any]]]
    ) -> None:
        can = {name for name, owned in statements.items() if '{"Ref": "ServerKey"}' in json.dumps(owned)}
        assert can == USE_SERVER_KEY

    def test_the_upload_function_reads_the_inbox_and_writes_only_the_outbox(
        self, statements: dict[str, list[dict[str, Any]]]
    ) -> None:
        owned = statements["SummarizeUploadFunction"]
        (writing,) = [each for each in owned if "s3:PutObject" in listed(each["Action"])]
        assert writing["Resource"]["Fn::Sub"].endswith("/outbox/*")

    def test_the_upload_function_may_know_that_a_document_is_gone(
        self, statements: dict[str, list[dict[str, Any]]]
    ) -> None:
        """S3 answers 404 only to a role that may list. A read names no prefix, which must not count as a wrong one."""
        owned = statements["SummarizeUploadFunction"]
        (listing,) = [each for each in owned if "s3:ListBucket" in listed(each["Action"])]
        assert listing["Condition"] == {"StringLikeIfExists": {"s3:prefix": ["inbox/*", "outbox/*"]}}
        assert listing["Resource"] == {"Fn::GetAtt": ["DocumentsBucket", "Arn"]}


class TestFunctions:
    def test_every_function_is_bounded_traced_logged_and_on_arm64(self, functions: dict[str, Resource]) -> None:
        for name, each in functions.items():
            assert each["Architectures"] == ["arm64"], name
            assert each["Runtime"] == "python3.13"
            assert each["ReservedConcurrentExecutions"] == {
                "Fn::If": ["ReservesConcurrency", {"Ref": "ReservedConcurrency"}, {"Ref": "AWS::NoValue"}]
            }
            assert each["TracingConfig"] == {"Mode": "Active"}
            assert each["LoggingConfig"] == {"LogFormat": "JSON", "LogGroup": {"Ref": "Logs"}}

    def test_an_account_without_executions_to_spare_can_reserve_none(self, source: dict[str, Any]) -> None:
        assert source["Parameters"]["ReservedConcurrency"]["MinValue"] == 0
        reserves = source["Conditions"]["ReservesConcurrency"]
        assert reserves == {"Fn::Not": [{"Fn::Equals": [{"Ref": "ReservedConcurrency"}, 0]}]}

    def test_a_function_ends_with_the_gateway_unless_it_has_something_to_finish(
        self, functions: dict[str, Resource]
    ) -> None:
        timeouts = {name: each["Timeout"] for name, each in functions.items()}
        assert timeouts.pop("SessionFunction") == {
            "Fn::FindInMap": ["Gateway", {"Ref": "GatewaySeconds"}, "TurnSeconds"]
        }
        assert timeouts.pop("StreamFunction") == LONGEST_STREAM_S
        assert timeouts.pop("SummarizeUploadFunction") == 120
        assert timeouts.pop("SweepFunction") == 600
        assert timeouts.pop("AccountFunction") == 300  # an erasure goes on, and a repeat finds it done
        assert timeouts.pop("AuthorizerFunction") == 10
        assert timeouts.pop("DocumentsToolFunction") == 15  # more than its tools have
        assert all(each == {"Ref": "GatewaySeconds"} for each in timeouts.values())

    def test_every_function_is_told_how_long_the_gateway_waits(self, functions: dict[str, Resource]) -> None:
        told = [each["Environment"]["Variables"]["GATEWAY_SECONDS"] for each in functions.values()]
        assert told == [{"Ref": "GatewaySeconds"}] * len(functions)

    @pytest.mark.parametrize("gateway_s", [29, 45, 60])
    def test_deadlines_follow_each_time_that_the_gateway_may_wait(self, source: dict[str, Any], gateway_s: int) -> None:
        assert gateway_s in source["Parameters"]["GatewaySeconds"]["AllowedValues"]
        deadlines = source["Mappings"]["Gateway"][str(gateway_s)]
        assert deadlines["Milliseconds"] == gateway_s * 1000
        assert GatewaySettings.read({"GATEWAY_SECONDS": str(gateway_s)}).gateway_seconds == gateway_s
        assert gateway_s >= MOST_WAIT_S + 9  # some time is left for the turn that was waited for
        assert deadlines["TurnSeconds"] >= gateway_s + 30  # a turn whose caller gave up is still stored
        assert deadlines["TurnSeconds"] < source["Resources"]["AccountFunction"]["Properties"]["Timeout"]

    def test_no_session_can_expire_under_its_own_turn(self, source: dict[str, Any]) -> None:
        """Each renewal of a lease is a use of its session; one of them may fail."""
        clocks_differ_s = 10
        assert LEASE_S + RENEW_EVERY_S + clocks_differ_s < SHORTEST_IDLE_S
        for name in ("SessionIdleMinutes", "AnonymousIdleMinutes"):
            assert source["Parameters"][name]["MinValue"] * 60 >= SHORTEST_IDLE_S

    def test_the_times_of_the_gateway_are_those_that_are_offered(self, source: dict[str, Any]) -> None:
        parameter = source["Parameters"]["GatewaySeconds"]
        assert [str(each) for each in parameter["AllowedValues"]] == list(source["Mappings"]["Gateway"])
        assert parameter["Default"] == 29  # of a Region whose quota nobody has raised

    def test_every_function_folder_is_deployed_and_has_an_example_event(self, source: dict[str, Any]) -> None:
        folders = {path.parent.name for path in Path("functions").glob("*/app.py")}
        deployed = {
            Path(each["Properties"]["CodeUri"]).name
            for each in source["Resources"].values()
            if each["Type"] == "AWS::Serverless::Function"
        }
        assert deployed == folders == {path.stem for path in Path("events").glob("*.json")}

    def test_no_function_folder_has_requirements_of_its_own(self) -> None:
        assert list(Path("functions").rglob("requirements.txt")) == []

    def test_no_environment_value_is_a_secret(self, functions: dict[str, Resource]) -> None:
        for each in functions.values():
            for name, value in each["Environment"]["Variables"].items():
                assert isinstance(value, (str, dict)), name
                assert not re.search(r"sk-ant-|AKIA|\{\{resolve:", json.dumps(value)), name
                assert "secret" not in json.dumps(value).lower(), name

    def test_stateless_functions_know_no_sessions_table_and_no_unused_key(self, functions: dict[str, Resource]) -> None:
        for name in STATELESS:
            named = {"SESSIONS_TABLE", "SERVER_KEY_SECRET"} & set(functions[name]["Environment"]["Variables"])
            assert named == ({"SERVER_KEY_SECRET"} if name in USE_SERVER_KEY else set())

    def test_asynchronous_invocations_that_fail_for_good_are_kept(self, of_type: OfType) -> None:
        queue = {"Fn::GetAtt": ["FailedEventsQueue", "Arn"]}
        configs = [each["Properties"] for each in of_type("AWS::Lambda::EventInvokeConfig").values()]
        assert {each["FunctionName"]["Ref"] for each in configs} == {"SummarizeUploadFunction", "SweepFunction"}
        assert all(each["DestinationConfig"]["OnFailure"]["Destination"] == queue for each in configs)

    def test_an_event_that_cannot_reach_its_function_is_kept_too(self, of_type: OfType) -> None:
        rules = of_type("AWS::Events::Rule").values()
        assert len(rules) == 2
        for rule in rules:
            (target,) = rule["Properties"]["Targets"]
            assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["FailedEventsQueue", "Arn"]}}
        (policy,) = of_type("AWS::SQS::QueuePolicy").values()
        (statement,) = policy["Properties"]["PolicyDocument"]["Statement"]
        assert (statement["Principal"], statement["Action"]) == ({"Service": "events.amazonaws.com"}, "sqs:SendMessage")
        rules_of_account = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/*"
        assert statement["Condition"] == {"ArnLike": {"aws:SourceArn": {"Fn::Sub": rules_of_account}}}


class TestLayers:
    def test_our_layer_is_mounted_as_it_is_and_the_other_one_is_built_for_the_functions(
        self, source: dict[str, Any]
    ) -> None:
        layers = source["Resources"]
        assert "Metadata" not in layers["TurnlogLayer"]
        for name in ("DependenciesLayer", "StreamLayer"):
            assert layers[name]["Metadata"] == {"BuildMethod": "makefile", "BuildArchitecture": "arm64"}

    def test_the_layer_ships_what_the_project_declares_at_the_tested_versions(self) -> None:
        declared = tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]
        shipped = pins(Path("layers/dependencies/requirements.txt"))
        assert {name.replace("[crypto]", "") for name in declared} <= {f"{name}=={at}" for name, at in shipped.items()}
        tested = pins(Path("requirements.lock"))
        assert {name: tested.get(name) for name in shipped} == shipped
        assert not {"boto3", "botocore", "aiohttp", "aws-xray-sdk"} & set(shipped)

    def test_the_servers_layer_ships_the_same_versions_of_what_both_layers_have(self) -> None:
        declared = tomllib.loads(Path("pyproject.toml").read_text())["dependency-groups"]["stream"]
        shipped, beside = pins(Path(LAYERS[1])), pins(Path(LAYERS[0]))
        assert {f"{name}=={at}" for name, at in shipped.items()} >= set(declared)
        tested = pins(Path("requirements.lock"))
        assert {name: tested.get(name) for name in shipped} == shipped
        both = set(shipped) & set(beside)
        assert {name: shipped[name] for name in both} == {name: beside[name] for name in both}

    def test_only_the_function_that_streams_has_more_layers_than_the_two_of_all(
        self, functions: dict[str, Resource]
    ) -> None:
        """Lambda takes five. The last one there is AWS's adapter, which a stack on one machine goes without."""
        named = {name: [each.get("Ref", "")[:-10] for each in layers["Layers"]] for name, layers in functions.items()}
        common = ["DependenciesLayer", "TurnlogLayer"]
        assert named.pop("StreamFunction") == [*common, "StreamLayer", ""]
        assert named == dict.fromkeys(named, common)
        adapter = functions["StreamFunction"]["Layers"][-1]["Fn::If"]
        assert (adapter[0], adapter[2]) == ("RunsOnAws", {"Ref": "AWS::NoValue"})
        assert adapter[1]["Fn::If"][:2] == ["NamesAdapter", {"Ref": "AdapterLayer"}]

    @pytest.mark.parametrize("lock", LOCKS)
    def test_every_locked_package_carries_a_hash(self, lock: str) -> None:
        entries = re.split(r"\n(?=\S)", Path(lock).read_text().strip())
        assert all("--hash=sha256:" in entry for entry in entries)
        assert len(entries) > (5 if lock == LAYERS[1] else 20)


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", lock.read_text(), flags=re.MULTILINE))


class TestApi:
    @pytest.mark.asvs("7.2.1")
    def test_every_route_has_the_authorizer_unless_it_is_public(
        self, routes: dict[tuple[str, str], dict[str, Any]]
    ) -> None:
        asked = {route: operation.get("security") for route, operation in routes.items()}
        wanted: dict[tuple[str, str], Any] = {
            (method, path): [{"AdminJwt" if path.startswith("/admin/") else "Jwt": []}]
            for method, path in set(routes) - PUBLIC_ROUTES
        }
        assert {route: by for route, by in asked.items() if route not in PUBLIC_ROUTES} == wanted
        assert not [by for route, by in asked.items() if route in PUBLIC_ROUTES and "Jwt" in json.dumps(by)]

    @pytest.mark.asvs("4.1.4")
    def test_routes_are_written_out(self, routes: dict[tuple[str, str], dict[str, Any]]) -> None:
        assert {method.lower() for method, _ in routes} <= METHODS
        assert not [path for _, path in routes if "+" in path]

    def test_the_session_function_and_the_template_have_the_same_routes(
        self, routes: dict[tuple[str, str], dict[str, Any]]
    ) -> None:
        served = {
            (method, path)
            for function in Path("functions").glob("*/app.py")
            for method, path in re.findall(r'\("([A-Z]+)", "(/[^"]*)"\)', function.read_text())
        }
        served |= {
            ("POST", path)
            for function in Path("functions").glob("*/app.py")
            for path in re.findall(r'single_turn\(\s*"(/[^"]+)"', function.read_text())
        }
        served |= set(app("stream").app.state.routes)
        once_more = {(method, f"/v1{path}") for method, path in served if path.startswith(("/messages", "/models"))}
        assert set(routes) == served | once_more

    def test_the_gateway_waits_on_every_route_as_long_as_the_parameter_says(
        self, routes: dict[tuple[str, str], dict[str, Any]], source: dict[str, Any]
    ) -> None:
        """At 29 s nothing is said, which is what every integration waits by itself."""
        longer = {"Fn::FindInMap": ["Gateway", {"Ref": "GatewaySeconds"}, "Milliseconds"]}
        waits = {"Fn::If": ["GatewayWaitsLonger", longer, {"Ref": "AWS::NoValue"}]}
        said = {route: each["x-amazon-apigateway-integration"]["timeoutInMillis"] for route, each in routes.items()}
        assert {route: each for route, each in said.items() if route not in STREAMED} == dict.fromkeys(
            set(routes) - STREAMED, waits
        )
        assert {said[route] for route in STREAMED} == {LONGEST_STREAM_S * 1000}
        assert source["Conditions"]["GatewayWaitsLonger"] == {
            "Fn::Not": [{"Fn::Equals": [{"Ref": "GatewaySeconds"}, 29]}]
        }

    @pytest.mark.asvs("14.2.2")
    def test_the_api_is_regional_and_uncached(self, api: dict[str, Any], stage: dict[str, Any]) -> None:
        assert api["EndpointConfiguration"] == {"Types": ["REGIONAL"]}
        assert stage["CacheClusterEnabled"] is False
        for method in stage["MethodSettings"]:
            assert (method["CachingEnabled"], method["DataTraceEnabled"]) == (False, False)

    def test_strangers_begin_sessions_under_a_lower_limit_than_all_else(
        self, stage: dict[str, Any], source: dict[str, Any]
    ) -> None:
        limits = {each["ResourcePath"]: each for each in stage["MethodSettings"]}
        for name in ("ThrottlingRateLimit", "ThrottlingBurstLimit"):
            assert limits["/*"][name] == {"Ref": "RequestsPerSecond"}
            assert limits["/~1anonymous~1sessions"][name] == {"Ref": "AnonymousCreationsASecond"}
        defaults = {name: parameter.get("Default") for name, parameter in source["Parameters"].items()}
        assert defaults["AnonymousCreationsASecond"] < defaults["RequestsPerSecond"]

    @pytest.mark.parametrize("change", [another_origin, another_gateway_response])
    def test_every_deploy_reaches_the_stage(
        self, change: Callable[[dict[str, Any]], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """SAM names a deployment by the template, in which a parameter is a name without a value."""

        def deployed_at(second: int, *changes: Callable[[dict[str, Any]], None]) -> set[str]:
            monkeypatch.setattr(apigateway, "time", SimpleNamespace(time=lambda: second))
            return deployments(transform(*changes))

        assert not deployed_at(1) & deployed_at(2, change)

    def test_no_page_may_call_the_api_unless_its_origin_is_named(
        self, api: dict[str, Any], source: dict[str, Any]
    ) -> None:
        parameter = source["Parameters"]["CorsOrigin"]
        assert parameter["Default"] == "closed"
        for origin in ("*", "null", "http://app.example", "http://localhost.example", "https://a.example,https://b"):
            assert re.fullmatch(parameter["AllowedPattern"], origin) is None
        given = [each for name, each in _leaves(api["Body"]) if name.endswith("Access-Control-Allow-Origin")]
        assert len(given) > 15
        named = {"Fn::If": ["NamesAnOrigin", {"Fn::Sub": "'${CorsOrigin}'"}, {"Ref": "AWS::NoValue"}]}
        assert all(each == named for each in given if "string" not in json.dumps(each))
        assert source["Conditions"]["NamesAnOrigin"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "CorsOrigin"}, "closed"]}]}

    def test_a_function_tells_pages_what_they_may_without_a_token(self, api: dict[str, Any]) -> None:
        """SAM's own preflights are MOCK integrations without contentHandling, which may fail: JSON is binary here."""
        paths = api["Body"]["paths"]
        missing = [preflight_line(path) for path, methods in paths.items() if "options" not in methods]
        assert not missing, "paste among the events of ConsoleFunction:\n" + "\n".join(missing)
        for path, methods in paths.items():
            integration = methods["options"]["x-amazon-apigateway-integration"]
            assert integration["type"] == "aws_proxy", path
            assert "ConsoleFunction" in json.dumps(integration["uri"]), path
            assert methods["options"]["security"] == [{"NONE": []}], path

    @pytest.mark.asvs("12.1.1")
    def test_no_caller_speaks_an_older_tls_than_1_2(self, api: dict[str, Any]) -> None:
        """A Regional API takes TLS 1.0 by default."""
        assert api["SecurityPolicy"].startswith("SecurityPolicy_TLS13_1_2_PFS")
        assert api["EndpointAccessMode"] == "STRICT"

    @pytest.mark.asvs("16.2.5")
    def test_the_stage_is_not_traced_since_its_segments_would_hold_raw_session_ids(
        self, stage: dict[str, Any], functions: dict[str, Resource]
    ) -> None:
        """API Gateway writes the whole URL of a request into its segment; Lambda's segments hold no request."""
        assert stage["TracingEnabled"] is False
        assert {each["TracingConfig"]["Mode"] for each in functions.values()} == {"Active"}

    def test_there_is_one_stage_and_sam_makes_no_second_one(self, api: dict[str, Any], of_type: OfType) -> None:
        assert [each["Properties"]["StageName"] for each in of_type("AWS::ApiGateway::Stage").values()] == ["v1"]
        (deployment,) = of_type("AWS::ApiGateway::Deployment").values()
        assert "StageName" not in deployment["Properties"]
        assert api["Body"]["openapi"].startswith("3.0")

    @pytest.mark.asvs("16.2.5")
    def test_the_stage_logs_routes_and_never_paths_or_callers(self, stage: dict[str, Any]) -> None:
        logged = json.loads(stage["AccessLogSetting"]["Format"])
        assert set(logged.values()) == {
            f"$context.{name}"
            for name in (
                "requestId",
                "authorizer.requestId",
                "httpMethod",
                "resourcePath",
                "status",
                "error.responseType",
                "responseLatency",
            )
        }

    def test_the_stage_logs_by_which_id_the_audit_trail_has_a_denial_of_the_authorizer(
        self, stage: dict[str, Any]
    ) -> None:
        """A TOKEN authorizer is not told the gateway's own id of the request, which the answer has."""
        logged = json.loads(stage["AccessLogSetting"]["Format"])
        assert logged["requestId"] == "$context.requestId"
        assert logged["authorizerRequestId"] == "$context.authorizer.requestId"

    def test_the_stage_comes_after_the_role_that_lets_it_log_and_that_after_the_api(
        self, stage: dict[str, Any], of_type: OfType
    ) -> None:
        made = {"Fn::If": ["MakesGatewayLogRole", {"Ref": "GatewayAccount"}, "exists"]}
        assert stage["Variables"] == {"logRole": made}
        account = of_type("AWS::ApiGateway::Account")["GatewayAccount"]
        assert account["DependsOn"] == "Api"
        assert account["Properties"] == {"CloudWatchRoleArn": {"Fn::GetAtt": ["GatewayLogWriter", "Arn"]}}
        assert account["Condition"] == of_type("AWS::IAM::Role")["GatewayLogWriter"]["Condition"]

    def test_json_bodies_reach_the_function_as_bytes(self, api: dict[str, Any]) -> None:
        assert api["Body"]["x-amazon-apigateway-binary-media-types"] == ["application/json"]

    def test_streams_are_streamed_by_the_gateway_and_every_other_answer_is_buffered(
        self, routes: dict[tuple[str, str], dict[str, Any]]
    ) -> None:
        """SAM takes other words for it too, and makes a buffered integration of them."""
        streamed = {
            route
            for route, each in routes.items()
            if each["x-amazon-apigateway-integration"].get("responseTransferMode") == "STREAM"
        }
        by_uri = {route for route, each in routes.items() if "response-streaming-invocations" in json.dumps(each)}
        of_function = {route for route, each in routes.items() if "StreamFunction" in json.dumps(each)}
        assert streamed == by_uri == of_function == STREAMED

    @pytest.mark.asvs("3.4.1")
    @pytest.mark.asvs("3.4.4")
    @pytest.mark.asvs("4.1.1")
    @pytest.mark.asvs("14.3.2")
    def test_whatever_the_gateway_refuses_is_a_problem_too(self, responses: dict[str, dict[str, Any]]) -> None:
        model = boto3.client("apigateway", region_name="us-east-1").meta.service_model
        assert set(responses) == set(model.shape_for("GatewayResponseType").metadata["enum"])
        for name, response in responses.items():
            (body,) = (json.loads(each) for each in response["responseTemplates"].values())
            headers = response["responseParameters"]
            assert headers["gatewayresponse.header.Content-Type"] == "'application/problem+json; charset=utf-8'", name
            assert headers["gatewayresponse.header.Cache-Control"] == "'no-store'"
            assert headers["gatewayresponse.header.X-Content-Type-Options"] == "'nosniff'"
            assert headers["gatewayresponse.header.Strict-Transport-Security"].startswith("'max-age=63072000")
            assert {"type", "title", "detail", "instance", "code"} <= set(body)
            assert body["type"] == f"urn:turnlog:problem:{body['code']}"
            assert "statusCode" not in response or str(body["status"]) == response["statusCode"]
            waits = headers.get("gatewayresponse.header.Retry-After")
            assert waits == (f"'{body['retry_after']}'" if "retry_after" in body else None)
            assert waits is not None or response.get("statusCode") not in ("429", "503"), name
        challenge = "gatewayresponse.header.WWW-Authenticate"
        challenged = {
            name: response["responseParameters"][challenge]
            for name, response in responses.items()
            if challenge in response["responseParameters"]
        }
        written = documented.written()["components"]["headers"]["WWW-Authenticate"]["schema"]["const"]
        assert challenged == {"UNAUTHORIZED": f"'{written}'"}

    def test_whatever_the_gateway_refuses_is_an_error_of_the_messages_api_too(
        self, responses: dict[str, dict[str, Any]]
    ) -> None:
        """A REST API has one answer for all routes. Anthropic's SDKs read the status, `error` and two headers."""
        for name, response in responses.items():
            (body,) = (json.loads(each) for each in response["responseTemplates"].values())
            status = body.get("status", 400 if name == "DEFAULT_4XX" else 500)
            request = httpx2.Request("POST", "https://api.example/v1/messages")
            answer = httpx2.Response(status, json=body, request=request)
            with Anthropic(auth_token="t", base_url="https://api.example") as client:
                error = client._make_status_error_from_response(answer)
            assert error.error_code == body["code"], name
            assert error.api_message == body["detail"]
            assert error.type == ERROR_TYPES[status]
            assert body["request_id"] == "$context.requestId"

    def test_a_wrong_credential_is_told_from_anthropics_clients_and_not_tried_again(
        self, responses: dict[str, dict[str, Any]]
    ) -> None:
        """Older clients, and ANTHROPIC_API_KEY, send what they have as x-api-key."""
        never = {
            name
            for name, response in responses.items()
            if response["responseParameters"].get("gatewayresponse.header.X-Should-Retry") == "'false'"
        }
        assert never == {"UNAUTHORIZED"}
        said = responses["UNAUTHORIZED"]["responseTemplates"]["application/json"]
        assert re.findall(r"auth_token|ANTHROPIC_AUTH_TOKEN|x-api-key", json.loads(said)["error"]["message"]) == [
            "auth_token",
            "ANTHROPIC_AUTH_TOKEN",
            "x-api-key",
        ]

    def test_clients_shorten_a_conversation_at_the_words_for_what_is_too_large(
        self, responses: dict[str, dict[str, Any]]
    ) -> None:
        said = responses["REQUEST_TOO_LARGE"]["responseTemplates"]["application/json"]
        assert "context window" in json.loads(said)["error"]["message"]

    def test_only_what_has_no_status_of_its_own_has_none_here(self, responses: dict[str, dict[str, Any]]) -> None:
        """A default with a status would lend it to every kind that AWS adds."""
        without = {name for name, response in responses.items() if "statusCode" not in response}
        assert without == {"DEFAULT_4XX", "DEFAULT_5XX"}

    def test_an_unknown_route_is_the_same_404_with_and_without_a_token(
        self, responses: dict[str, dict[str, Any]]
    ) -> None:
        """The gateway looks for AWS's own signature in an Authorization header and finds it wrong."""
        unknown = responses["MISSING_AUTHENTICATION_TOKEN"]
        assert unknown["statusCode"] == "404"
        for kind in ("INVALID_SIGNATURE", "EXPIRED_TOKEN", "RESOURCE_NOT_FOUND"):
            assert responses[kind] == unknown

    @pytest.mark.asvs("16.5.1")
    def test_no_answer_of_the_gateway_repeats_what_was_sent(self, responses: dict[str, dict[str, Any]]) -> None:
        said = re.findall(r"\$[a-zA-Z.]+", json.dumps(responses))
        assert set(said) == {"$context.requestId"}

    def test_gateway_and_functions_use_one_vocabulary(self, api: dict[str, Any]) -> None:
        said = {kind.code: wording.title for kind, wording in WORDINGS.items()}
        for response in api["Body"]["x-amazon-apigateway-gateway-responses"].values():
            body = json.loads(response["responseTemplates"]["application/json"])
            assert body["title"] == said.get(body["code"], body["title"])

    def test_the_authorizers_answer_is_cached_by_the_token_but_for_administrators(self, api: dict[str, Any]) -> None:
        """The audit trail has every refused request to an admin route, not one in 5 minutes."""
        authorizers = api["Body"]["components"]["securitySchemes"]
        assert {each["name"] for each in authorizers.values()} == {"Authorization"}
        seconds = {
            name: each["x-amazon-apigateway-authorizer"]["authorizerResultTtlInSeconds"]
            for name, each in authorizers.items()
        }
        assert seconds == {"Jwt": 300, "AdminJwt": 0}

    @pytest.mark.parametrize(
        ("header", "let_in"),
        [
            ("Bearer e30.e30.c2ln", True),
            ("bearer e30.e30.c2ln", True),
            ("BEARER  eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.a-b_c", True),
            (f"Session {'aZ0-_' * 8}abc", True),
            (f"session {'x' * 43}", True),
            ("", False),
            ("Bearer", False),
            ("Bearer ", False),
            ("Bearer e30.e30.", False),
            ("Bearer e30.e30", False),
            ("Bearer e30.e30.c2ln.more", False),
            ("Bearer e30.e30.c2ln\nX: y", False),
            ("Bearer e30.e30.c2l=", False),
            ("Basic YWRhOnNlY3JldA==", False),
            ("e30.e30.c2ln", False),
            (f"Session {'x' * 42}", False),
            (f"Session {'x' * 44}", False),
            (f"Session {'x' * 42}=", False),
            (f"Bearer {'x' * 43}", False),
            (f"Session{'x' * 43}", False),
        ],
    )
    def test_what_is_no_credential_by_its_form_never_reaches_the_authorizer(
        self, api: dict[str, Any], header: str, let_in: bool
    ) -> None:
        authorizers = api["Body"]["components"]["securitySchemes"]
        forms = {
            name: each["x-amazon-apigateway-authorizer"]["identityValidationExpression"]
            for name, each in authorizers.items()
        }
        assert {name: bool(re.fullmatch(form, header)) for name, form in forms.items()} == {
            "Jwt": let_in,
            "AdminJwt": let_in,  # an anonymous caller too, who is turned away by what the authorizer says: 403, not 401
        }


class TestStorage:
    @pytest.mark.parametrize("name", ["SessionsTable", "UsageTable"])
    def test_a_table_is_kept_encrypted_recoverable_and_expires_what_the_code_says(
        self, of_type: OfType, name: str
    ) -> None:
        table = of_type("AWS::DynamoDB::Table")[name]
        properties = table["Properties"]
        assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain")
        assert properties["DeletionProtectionEnabled"] is True
        assert properties["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
        assert properties["SSESpecification"]["SSEType"] == "KMS"
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert [key["AttributeName"] for key in properties["KeySchema"]] == ["pk", "sk"]
        assert "GlobalSecondaryIndexes" not in properties

    def test_content_keys_are_retained_without_a_backup_of_erased_ones(self, of_type: OfType) -> None:
        table = of_type("AWS::DynamoDB::Table")["KeysTable"]
        properties = table["Properties"]
        assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain")
        assert properties["DeletionProtectionEnabled"] is True
        assert properties["SSESpecification"]["SSEType"] == "KMS"
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": False}
        assert "TimeToLiveSpecification" not in properties
        assert [key["AttributeName"] for key in properties["KeySchema"]] == ["pk", "sk"]

    def test_only_an_identity_s_own_policy_lets_it_use_the_key_of_content(self, of_type: OfType) -> None:
        (statement,) = of_type("AWS::KMS::Key")["ContentKey"]["Properties"]["KeyPolicy"]["Statement"]
        assert statement["Sid"] == "Administration"

    def test_the_bucket_is_private_encrypted_versioned_tls_only_and_forgets(self, of_type: OfType) -> None:
        (bucket,) = of_type("AWS::S3::Bucket").values()
        properties = bucket["Properties"]
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
        assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
        assert [rule["Status"] for rule in properties["LifecycleConfiguration"]["Rules"]] == ["Enabled"]
        (policy,) = of_type("AWS::S3::BucketPolicy").values()
        (statement,) = policy["Properties"]["PolicyDocument"]["Statement"]
        assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})

    def test_a_summary_cannot_call_the_function_that_made_it(self, of_type: OfType) -> None:
        (pattern,) = [
            each["Properties"]["EventPattern"]
            for each in of_type("AWS::Events::Rule").values()
            if "EventPattern" in each["Properties"]
        ]
        assert (pattern["source"], pattern["detail-type"]) == (["aws.s3"], ["Object Created"])
        assert pattern["detail"]["bucket"] == {"name": [{"Ref": "DocumentsBucket"}]}
        assert pattern["detail"]["object"] == {"key": [{"wildcard": "inbox/*.txt"}, {"wildcard": "inbox/*.md"}]}

    def test_nothing_of_the_bucket_depends_on_what_a_delete_removes(self, of_type: OfType) -> None:
        """The bucket stays: a notification of its own would name a function that is gone, and its policy must stay."""
        (bucket,) = of_type("AWS::S3::Bucket").values()
        assert bucket["Properties"]["NotificationConfiguration"] == {
            "EventBridgeConfiguration": {"EventBridgeEnabled": True}
        }
        (policy,) = of_type("AWS::S3::BucketPolicy").values()
        assert policy["DeletionPolicy"] == bucket["DeletionPolicy"] == "RetainExceptOnCreate"

    def test_only_rules_and_the_api_of_this_stack_can_call_a_function(self, of_type: OfType) -> None:
        permissions = [each["Properties"] for each in of_type("AWS::Lambda::Permission").values()]
        assert {each["Principal"] for each in permissions} == {"apigateway.amazonaws.com", "events.amazonaws.com"}
        assert all("SourceArn" in each for each in permissions)

    def test_no_resource_has_a_name_that_another_stack_could_have(self, transformed: dict[str, Any]) -> None:
        """A fixed name is taken, after a delete, by what stayed; and a stack's name may have other letters."""
        of_its_own = {
            "AWS::S3::Bucket": "BucketName",
            "AWS::DynamoDB::Table": "TableName",
            "AWS::Lambda::Function": "FunctionName",
            "AWS::IAM::Role": "RoleName",
            "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
            "AWS::SQS::Queue": "QueueName",
            "AWS::Logs::LogGroup": "LogGroupName",
            "AWS::SecretsManager::Secret": "Name",
            "AWS::CloudWatch::Alarm": "AlarmName",
            "AWS::Events::Rule": "Name",
            "AWS::Cognito::UserPool": "UserPoolName",
        }
        for name, each in transformed["Resources"].items():
            assert of_its_own.get(each["Type"]) not in each.get("Properties", {}), name

    def test_secrets_queues_and_logs_are_under_the_customer_key(self, of_type: OfType) -> None:
        for secret in of_type("AWS::SecretsManager::Secret").values():
            assert secret["Properties"]["KmsKeyId"] == {"Ref": "Key"}
            assert "SecretString" not in secret["Properties"]
        for queue in of_type("AWS::SQS::Queue").values():
            assert queue["Properties"]["KmsMasterKeyId"] == {"Ref": "Key"}
        groups = {name: each["Properties"] for name, each in of_type("AWS::Logs::LogGroup").items()}
        kept = {name: each["RetentionInDays"] for name, each in groups.items()}
        assert kept == {"Logs": {"Ref": "LogRetentionDays"}, "Audit": {"Ref": "AuditRetentionDays"}}
        assert all(each["KmsKeyId"] == {"Fn::GetAtt": ["Key", "Arn"]} for each in groups.values())
        for key in of_type("AWS::KMS::Key").values():
            assert key["Properties"]["EnableKeyRotation"] is True

    def test_what_people_stored_outlives_the_stack(self, transformed: dict[str, Any]) -> None:
        kept = {
            name: each["DeletionPolicy"]
            for name, each in transformed["Resources"].items()
            if each.get("DeletionPolicy", "Delete") != "Delete"
        }
        assert set(kept) == {
            *(
                "SessionsTable",
                "UsageTable",
                "KeysTable",
                "DocumentsBucket",
                "DocumentsBucketPolicy",
                "UserPool",
                "Audit",
                "Key",
                "ContentKey",
                "ClaudeKey",
                "ServerKey",
            ),
            *("GatewayAccount", "GatewayLogWriter"),
        }
        # What is protected cannot be deleted, so that a rollback that tried to would fail as well; and API Gateway goes
        # on naming its role for logs, which no delete resets.
        assert {name for name, policy in kept.items() if policy == "Retain"} == {
            "SessionsTable",
            "UsageTable",
            "KeysTable",
            "UserPool",
            *("GatewayAccount", "GatewayLogWriter"),
        }
        assert set(kept.values()) == {"Retain", "RetainExceptOnCreate"}
        assert all(transformed["Resources"][name]["UpdateReplacePolicy"] == "Retain" for name in kept)

    def test_a_failed_first_deploy_leaves_nothing_whose_name_the_next_one_needs(
        self, transformed: dict[str, Any]
    ) -> None:
        """CloudFormation invents the name of a resource that stays after a rollback."""
        for each in transformed["Resources"].values():
            if each.get("DeletionPolicy") == "Retain":
                assert not [key for key in each["Properties"] if key.endswith("Name")]


class TestAlarms:
    def test_every_function_has_one_for_errors_and_one_for_throttles(
        self, alarms: dict[str, Resource], functions: dict[str, Resource]
    ) -> None:
        """The authorizer has no alarm: it says 401 by an error, so that anybody could raise one."""
        watched: dict[str, set[str]] = {"Errors": set(), "Throttles": set()}
        for alarm in alarms.values():
            if alarm["Namespace"] == "AWS/Lambda":
                (dimension,) = alarm["Dimensions"]
                assert dimension["Name"] == "FunctionName"
                watched[alarm["MetricName"]].add(dimension["Value"]["Ref"])
        wanted = {"Errors": set(functions) - {"AuthorizerFunction"}, "Throttles": set(functions)}
        missing = [alarm_line(name, metric) for metric in wanted for name in sorted(wanted[metric] - watched[metric])]
        assert not missing, "paste among the alarms of template.yaml:\n" + "\n".join(missing)
        assert watched == wanted

    def test_each_watches_a_signal_that_somebody_sends(self, alarms: dict[str, Resource], of_type: OfType) -> None:
        made = of_type("AWS::Logs::MetricFilter").values()
        ours = [
            (each["MetricNamespace"], each["MetricName"])
            for one in made
            for each in one["Properties"]["MetricTransformations"]
        ]
        api = [{"Name": "ApiName", "Value": {"Ref": "AWS::StackName"}}, {"Name": "Stage", "Value": "v1"}]
        queue = [{"Name": "QueueName", "Value": {"Fn::GetAtt": ["FailedEventsQueue", "QueueName"]}}]
        theirs = {
            ("AWS/ApiGateway", "5XXError"): api,
            ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): queue,
        }
        for name, alarm in alarms.items():
            if alarm["Namespace"] == "AWS/Lambda":
                continue
            if isinstance(alarm["Namespace"], str):
                assert alarm["Dimensions"] == theirs[alarm["Namespace"], alarm["MetricName"]], name
            else:
                assert (alarm["Namespace"], alarm["MetricName"]) in ours, name
                assert "Dimensions" not in alarm
        (api_name,) = (each["Properties"]["Name"] for each in of_type("AWS::ApiGateway::RestApi").values())
        assert api_name == {"Ref": "AWS::StackName"}

    def test_each_tells_the_topic_if_there_is_one(self, alarms: dict[str, Resource]) -> None:
        details = {"Fn::If": ["TellsOfAlarms", [{"Ref": "AlarmTopic"}], {"Ref": "AWS::NoValue"}]}
        assert [alarm["AlarmActions"] for alarm in alarms.values()] == [details] * len(alarms)

    def test_no_alarm_fires_because_the_stack_is_new(self, alarms: dict[str, Resource]) -> None:
        assert {alarm["TreatMissingData"] for alarm in alarms.values()} == {"notBreaching"}

    def test_lines_without_a_finished_sweep_fire_the_alarm_after_four_missed_ones(
        self, alarms: dict[str, Resource], of_type: OfType
    ) -> None:
        """The filter counts 0 for lines that are no sweep's, such as those of one that fails; data that is not there
        would not tell a stack that is new.
        """
        (metric,) = of_type("AWS::Logs::MetricFilter")["SweepsDone"]["Properties"]["MetricTransformations"]
        assert (metric["MetricValue"], metric["DefaultValue"]) == ("1", 0)
        alarm = alarms["SweepMissing"]
        assert (alarm["Namespace"], alarm["MetricName"]) == (metric["MetricNamespace"], metric["MetricName"])
        assert (alarm["Period"], alarm["EvaluationPeriods"]) == (
            900,
            5,
        )  # a sweep each 900 s, and one may be on its way
        assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (1, "LessThanThreshold")

    def test_a_finished_sweep_is_what_the_filter_counts(self, of_type: OfType, monkeypatch: pytest.MonkeyPatch) -> None:
        lines = io.StringIO()
        monkeypatch.setattr(telemetry._logger().registered_handler, "stream", lines)
        monkeypatch.setattr(runtime, "session_store", MemorySessionStore)
        monkeypatch.setattr(runtime, "now_ms", HeldClock())
        app("sweep").handler(event("sweep"), Context())
        counted = of_type("AWS::Logs::MetricFilter")["SweepsDone"]["Properties"]
        assert counted["LogGroupName"] == {"Ref": "Logs"}
        assert counted["FilterPattern"] == f'{{ $.message = "{json.loads(lines.getvalue())["message"]}" }}'

    def test_a_look_at_content_is_what_the_other_filter_counts_in_the_audit_trail(
        self, of_type: OfType, alarms: dict[str, Resource]
    ) -> None:
        counted = of_type("AWS::Logs::MetricFilter")["ContentShown"]["Properties"]
        assert counted["LogGroupName"] == {"Ref": "Audit"}
        assert counted["FilterPattern"] == f'{{ $.action = "{test_admin.ACTIONS[test_admin.CONTENT]}" }}'
        (metric,) = counted["MetricTransformations"]
        alarm = alarms["ContentShownToAdmin"]
        assert (alarm["Namespace"], alarm["MetricName"]) == (metric["MetricNamespace"], metric["MetricName"])
        assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (1, "GreaterThanOrEqualToThreshold")

    @pytest.mark.parametrize(
        ("counted", "alarm", "codes"),
        [
            ("ModelsRefused", "ModelRetired", {ModelRetired.code, ModelNotServed.code}),
            ("CreditUsedUp", "ModelCreditUsedUp", {ModelCreditUsedUp.code}),
        ],
    )
    def test_what_only_the_owner_can_mend_at_the_provider_fires_an_alarm(
        self, of_type: OfType, alarms: dict[str, Resource], counted: str, alarm: str, codes: set[str]
    ) -> None:
        """By the code in the line that each request, and each upload that failed, leaves in the log."""
        counting = of_type("AWS::Logs::MetricFilter")[counted]["Properties"]
        assert {counting["FilterPattern"]} == {f'{{ $.code = "{code}" }}' for code in codes}
        assert counting["LogGroupName"] == {"Ref": "Logs"}
        (metric,) = counting["MetricTransformations"]
        told = alarms[alarm]
        assert (told["Namespace"], told["MetricName"]) == (metric["MetricNamespace"], metric["MetricName"])
        assert (told["Threshold"], told["ComparisonOperator"]) == (1, "GreaterThanOrEqualToThreshold")


@pytest.mark.asvs("7.1.1")
def test_how_long_sessions_live_is_a_parameter_with_its_reason(source: dict[str, Any]) -> None:
    for name, default in (("SessionIdleMinutes", 30), ("SessionLifetimeHours", 24)):
        assert source["Parameters"][name]["Default"] == default
        assert "A session expires" in source["Parameters"][name]["Description"]
    assert "A day, since" in source["Parameters"]["SessionLifetimeHours"]["Description"]


def test_a_session_of_a_user_may_live_and_be_idle_for_a_year_and_a_strangers_may_not(source: dict[str, Any]) -> None:
    longest = {name: each["MaxValue"] for name, each in source["Parameters"].items() if "MaxValue" in each}
    year = timedelta(days=365)
    assert timedelta(minutes=longest["SessionIdleMinutes"]) == timedelta(hours=longest["SessionLifetimeHours"]) == year
    assert timedelta(minutes=longest["AnonymousIdleMinutes"]) == timedelta(days=1)
    assert timedelta(minutes=longest["AnonymousLifetimeMinutes"]) == timedelta(days=30)


def test_the_session_store_is_a_parameter_of_two_values(source: dict[str, Any]) -> None:
    parameter = source["Parameters"]["SessionStore"]
    assert (parameter["AllowedValues"], parameter["Default"]) == (["dynamodb", "hybrid"], "dynamodb")


def test_every_function_that_stores_or_charges_has_the_same_session_store(functions: dict[str, Resource]) -> None:
    for name in KEEP_SESSIONS | ASK_CLAUDE:
        assert functions[name]["Environment"]["Variables"]["SESSION_STORE"] == {"Ref": "SessionStore"}, name


def test_content_is_encrypted_by_default(source: dict[str, Any]) -> None:
    assert source["Parameters"]["ContentEncryption"]["Default"] == "on"


def test_production_is_deployed_by_default(source: dict[str, Any]) -> None:
    assert source["Parameters"]["Environment"]["Default"] == "production"
    assert source["Parameters"]["ClaudeBaseUrl"]["Default"].startswith("https://")
    config = tomllib.loads(Path("samconfig.toml").read_text())
    assert "parameter_overrides" not in config["default"]["deploy"]["parameters"]


@pytest.mark.parametrize("name", ["TokenIssuer", "TokenJwksUrl"])
def test_a_deploy_takes_an_issuer_without_tls_only_on_this_machine(source: dict[str, Any], name: str) -> None:
    allowed = source["Parameters"][name]["AllowedPattern"]
    for url in ("https://issuer.example/", "http://127.0.0.1:8789/", ""):  # none: the stack makes a user pool
        assert re.fullmatch(allowed, url), url
    for url in ("http://issuer.example/", "http://127.0.0.1.evil.example/", "issuer.example", " "):
        assert not re.fullmatch(allowed, url), url


class TestTokens:
    def test_a_stack_without_an_issuer_believes_access_tokens_of_its_own_user_pool(
        self, functions: dict[str, Resource]
    ) -> None:
        variables = functions["AuthorizerFunction"]["Environment"]["Variables"]
        found = {name: variables[name]["Fn::If"][:2] for name in ("TOKEN_ISSUER", "TOKEN_AUDIENCE", "TOKEN_JWKS_URL")}
        assert found == {
            "TOKEN_ISSUER": ["MakesUserPool", {"Fn::Sub": "https://${UserPool.ProviderName}"}],
            "TOKEN_AUDIENCE": ["MakesUserPool", {"Ref": "UserPoolClient"}],
            "TOKEN_JWKS_URL": ["MakesUserPool", {"Fn::Sub": "https://${UserPool.ProviderName}/.well-known/jwks.json"}],
        }
        assert variables["ROLES_CLAIM"]["Fn::If"][:2] == ["MakesUserPool", "cognito:groups"]

    def test_nobody_lets_themselves_into_the_user_pool(self, transformed: dict[str, Any]) -> None:
        resources = transformed["Resources"]
        pool = resources["UserPool"]["Properties"]
        assert pool["AdminCreateUserConfig"] == {"AllowAdminCreateUserOnly": True}
        assert pool["DeletionProtection"] == "ACTIVE"
        client = resources["UserPoolClient"]["Properties"]
        assert client["PreventUserExistenceErrors"] == "ENABLED"
        groups = {each["Properties"]["GroupName"] for each in resources.values() if each["Type"].endswith("PoolGroup")}
        assert groups == {"admin", "admin:content", "delegate"}

    def test_the_pool_is_made_only_without_an_issuer(self, transformed: dict[str, Any]) -> None:
        assert transformed["Conditions"]["MakesUserPool"] == {"Fn::Equals": [{"Ref": "TokenIssuer"}, ""]}
        for name, each in transformed["Resources"].items():
            if each["Type"].startswith("AWS::Cognito::"):
                assert each["Condition"] == "MakesUserPool", name


class TestParameters:
    def test_new_models_reach_a_stack_that_exists(self, source: dict[str, Any], functions: dict[str, Resource]) -> None:
        """CloudFormation keeps the value of a parameter from the first deploy on, whatever its default is now."""
        assert source["Parameters"]["ClaudeModels"]["Default"] == ""
        models = functions["QueryFunction"]["Environment"]["Variables"]["CLAUDE_MODELS"]
        assert models == {
            "Fn::If": ["NamesModels", {"Ref": "ClaudeModels"}, {"Fn::FindInMap": ["Release", "Claude", "Models"]}]
        }

    def test_the_models_of_a_release_are_known_priced_and_not_about_to_retire(self, source: dict[str, Any]) -> None:
        """None of them has a day of retirement yet: the provider announces one 60 days before."""
        offered = source["Mappings"]["Release"]["Claude"]["Models"].split(",")
        assert offered
        for name in offered:
            model = MODELS[name]
            assert (model.deprecated, model.retires, model.successor) == (None, None, None), name
            assert PRICES[name]

    def test_what_names_the_account_of_all_callers_is_denied_by_default(self, functions: dict[str, Resource]) -> None:
        environment = deployed.environment("StreamFunction")
        denied = PassingSettings.read(environment)
        assert set(denied.denied_fields) >= {"thread", "container", "file_id", "mcp_servers", "previous_message_id"}
        assert {"billing_policy", "user_profile_id", "workspace_id"} <= set(denied.denied_fields)
        assert denied.denied_betas == ()
        named = functions["StreamFunction"]["Environment"]["Variables"]["DENIED_FIELDS"]["Fn::If"]
        assert named[:2] == ["NamesDeniedFields", {"Ref": "DeniedFields"}]

    def test_logs_are_kept_for_a_time_that_cloudwatch_accepts(self, source: dict[str, Any]) -> None:
        logs, audit = (source["Parameters"][name] for name in ("LogRetentionDays", "AuditRetentionDays"))
        assert logs["AllowedValues"] == audit["AllowedValues"]
        assert 31 not in logs["AllowedValues"]
        assert logs["Default"] in logs["AllowedValues"]

    def test_nothing_is_reserved_unless_the_owner_says_so(self, source: dict[str, Any]) -> None:
        """Lambda keeps 100 executions of an account unreserved, and a new account has no more than that."""
        assert source["Parameters"]["ReservedConcurrency"]["Default"] == 0

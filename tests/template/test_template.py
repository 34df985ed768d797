"""What must hold of every resource that is deployed; linters see little of it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.template.conftest import OfType, Resource
from turnlog.http.problems import PROBLEMS

ASK_CLAUDE = {"QueryFunction", "AnalyzeCodeFunction", "SummarizeFunction", "SessionFunction", "SummarizeUploadFunction"}
KEEP_SESSIONS = {"SessionFunction", "SweepFunction"}
STATELESS = ASK_CLAUDE - KEEP_SESSIONS | {"AuthorizerFunction"}
PUBLIC_ROUTES: set[tuple[str, str]] = set()
LOCKS = ["requirements.lock", "layers/dependencies/requirements.txt", "local/ministack.lock"]
METHODS = {"get", "put", "post", "delete", "patch", "head", "options"}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.fixture(scope="session")
def functions(of_type: OfType) -> dict[str, Resource]:
    return {name: each["Properties"] for name, each in of_type("AWS::Lambda::Function").items()}


@pytest.fixture(scope="session")
def statements(transformed: dict[str, Any], functions: dict[str, Resource]) -> dict[str, list[dict[str, Any]]]:
    """Every statement that a function's role carries, inline or by a managed policy of this stack."""
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
def routes(api: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, operations in api["Body"]["paths"].items()
        for method, operation in operations.items()
    }


def actions(statements: list[dict[str, Any]]) -> Iterator[str]:
    for statement in statements:
        yield from listed(statement["Action"])


class TestRoles:
    def test_each_function_has_a_role_of_its_own(self, functions: dict[str, Resource]) -> None:
        assert {name: each["Role"] for name, each in functions.items()} == {
            name: {"Fn::GetAtt": [f"{name}Role", "Arn"]} for name in functions
        }

    def test_no_role_has_a_wildcard(self, statements: dict[str, list[dict[str, Any]]]) -> None:
        for owned in statements.values():
            assert not [action for action in actions(owned) if "*" in action]
            assert not [each for each in owned if "*" in listed(each["Resource"])]

    def test_no_role_can_scan_or_change_the_table(self, statements: dict[str, list[dict[str, Any]]]) -> None:
        for owned in statements.values():
            assert not {"dynamodb:Scan", "dynamodb:DeleteTable", "dynamodb:UpdateTimeToLive"} & set(actions(owned))

    def test_only_functions_that_keep_sessions_reach_their_table(
        self, statements: dict[str, list[dict[str, Any]]]
    ) -> None:
        reach = {name for name, owned in statements.items() if "dynamodb" in json.dumps(owned)}
        assert reach == KEEP_SESSIONS

    def test_the_table_of_what_owners_used_is_only_counted_in_and_erased_from(
        self, statements: dict[str, list[dict[str, Any]]]
    ) -> None:
        (counting,) = [
            each for owned in statements.values() for each in owned if "UsageTable" in json.dumps(each["Resource"])
        ]
        assert listed(counting["Action"]) == ["dynamodb:UpdateItem", "dynamodb:Query", "dynamodb:BatchWriteItem"]

    def test_only_the_session_function_reaches_the_keys_of_content_and_each_as_that_of_an_owner(
        self, statements: dict[str, list[dict[str, Any]]]
    ) -> None:
        for secret in ("KeysTable", "ContentKey", "kms:"):
            assert {name for name, owned in statements.items() if secret in json.dumps(owned)} == {"SessionFunction"}
        (wrapping,) = [each for each in statements["SessionFunction"] if "ContentKey" in json.dumps(each["Resource"])]
        assert wrapping["Action"] == ["kms:GenerateDataKey", "kms:Decrypt"]
        assert wrapping["Condition"] == {
            "Null": {"kms:EncryptionContext:owner": "false"},
            "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["owner"]},
        }
        (reading,) = [each for each in statements["SessionFunction"] if "KeysTable" in json.dumps(each["Resource"])]
        assert not {"dynamodb:DeleteItem", "dynamodb:BatchWriteItem"} & set(reading["Action"])

    def test_only_functions_that_ask_claude_can_read_its_key(self, statements: dict[str, list[dict[str, Any]]]) -> None:
        assert {name for name, owned in statements.items() if '{"Ref": "ClaudeKey"}' in json.dumps(owned)} == ASK_CLAUDE

    def test_the_upload_function_reads_the_inbox_and_writes_only_the_outbox(
        self, statements: dict[str, list[dict[str, Any]]]
    ) -> None:
        owned = statements["SummarizeUploadFunction"]
        (writing,) = [each for each in owned if "s3:PutObject" in listed(each["Action"])]
        assert writing["Resource"]["Fn::Sub"].endswith("/outbox/*")


class TestFunctions:
    def test_every_function_is_bounded_traced_logged_and_on_arm64(self, functions: dict[str, Resource]) -> None:
        for name, each in functions.items():
            assert each["Architectures"] == ["arm64"], name
            assert each["Runtime"] == "python3.13"
            assert each["ReservedConcurrentExecutions"] == {"Ref": "ReservedConcurrency"}
            assert each["TracingConfig"] == {"Mode": "Active"}
            assert each["LoggingConfig"] == {"LogFormat": "JSON", "LogGroup": {"Ref": "Logs"}}

    def test_functions_behind_the_gateway_end_before_it_gives_up_but_the_session_function(
        self, functions: dict[str, Resource]
    ) -> None:
        timeouts = {name: each["Timeout"] for name, each in functions.items()}
        assert timeouts.pop("SessionFunction") == 60
        assert timeouts.pop("SummarizeUploadFunction") == 120
        assert timeouts.pop("SweepFunction") == 600
        assert max(timeouts.values()) <= 29

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
                assert not re.search(r"sk-ant-|AKIA|resolve:secretsmanager", json.dumps(value)), name
                assert "secret" not in json.dumps(value).lower(), name

    def test_sessions_and_their_key_are_not_even_named_to_stateless_functions(
        self, functions: dict[str, Resource]
    ) -> None:
        for name in STATELESS:
            assert not {"SESSIONS_TABLE", "SERVER_KEY_SECRET"} & set(functions[name]["Environment"]["Variables"])

    def test_asynchronous_invocations_that_fail_for_good_are_kept(self, of_type: OfType) -> None:
        queue = {"Fn::GetAtt": ["FailedEventsQueue", "Arn"]}
        configs = [each["Properties"] for each in of_type("AWS::Lambda::EventInvokeConfig").values()]
        assert {each["FunctionName"]["Ref"] for each in configs} == {"SummarizeUploadFunction", "SweepFunction"}
        assert all(each["DestinationConfig"]["OnFailure"]["Destination"] == queue for each in configs)

    def test_a_schedule_that_cannot_reach_its_function_is_kept_too(self, of_type: OfType) -> None:
        (rule,) = of_type("AWS::Events::Rule").values()
        (target,) = rule["Properties"]["Targets"]
        assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["FailedEventsQueue", "Arn"]}}
        (policy,) = of_type("AWS::SQS::QueuePolicy").values()
        (statement,) = policy["Properties"]["PolicyDocument"]["Statement"]
        assert (statement["Principal"], statement["Action"]) == ({"Service": "events.amazonaws.com"}, "sqs:SendMessage")


class TestLayers:
    def test_our_layer_is_mounted_as_it_is_and_the_other_one_is_built_for_the_functions(
        self, source: dict[str, Any]
    ) -> None:
        layers = source["Resources"]
        assert "Metadata" not in layers["TurnlogLayer"]
        assert layers["DependenciesLayer"]["Metadata"] == {"BuildMethod": "makefile", "BuildArchitecture": "arm64"}

    def test_the_layer_ships_what_the_project_declares_at_the_tested_versions(self) -> None:
        declared = tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]
        shipped = pins(Path("layers/dependencies/requirements.txt"))
        assert {name.replace("[crypto]", "") for name in declared} <= {f"{name}=={at}" for name, at in shipped.items()}
        tested = pins(Path("requirements.lock"))
        assert {name: tested.get(name) for name in shipped} == shipped
        assert not {"boto3", "botocore", "aiohttp", "aws-xray-sdk"} & set(shipped)

    @pytest.mark.parametrize("lock", LOCKS)
    def test_every_locked_package_carries_a_hash(self, lock: str) -> None:
        entries = re.split(r"\n(?=\S)", Path(lock).read_text().strip())
        assert all("--hash=sha256:" in entry for entry in entries)
        assert len(entries) > 20


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", lock.read_text(), flags=re.MULTILINE))


class TestApi:
    def test_every_route_has_the_authorizer_unless_it_is_public(
        self, routes: dict[tuple[str, str], dict[str, Any]]
    ) -> None:
        open_to_all = {route for route, operation in routes.items() if operation.get("security") != [{"Jwt": []}]}
        assert open_to_all == PUBLIC_ROUTES

    def test_routes_are_written_out(self, routes: dict[tuple[str, str], dict[str, Any]]) -> None:
        assert {method.lower() for method, _ in routes} <= METHODS
        assert not [path for _, path in routes if "+" in path]

    def test_every_route_of_the_session_function_is_in_the_template_and_the_other_way_round(
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
        assert set(routes) == served

    def test_the_api_is_regional_uncached_traced_and_without_cors(self, api: dict[str, Any], of_type: OfType) -> None:
        (stage,) = (each["Properties"] for each in of_type("AWS::ApiGateway::Stage").values())
        assert api["EndpointConfiguration"] == {"Types": ["REGIONAL"]}
        assert stage["CacheClusterEnabled"] is False
        assert stage["TracingEnabled"] is True
        (method,) = stage["MethodSettings"]
        assert (method["CachingEnabled"], method["DataTraceEnabled"]) == (False, False)
        assert method["ThrottlingRateLimit"] == {"Ref": "RequestsPerSecond"}
        assert "Access-Control" not in json.dumps(api)

    def test_json_bodies_reach_the_function_as_bytes(self, api: dict[str, Any]) -> None:
        assert api["Body"]["x-amazon-apigateway-binary-media-types"] == ["application/json"]

    def test_what_the_gateway_refuses_is_a_problem_too(self, api: dict[str, Any]) -> None:
        responses = api["Body"]["x-amazon-apigateway-gateway-responses"]
        assert {
            "MISSING_AUTHENTICATION_TOKEN",
            "UNAUTHORIZED",
            "ACCESS_DENIED",
            "REQUEST_TOO_LARGE",
            "UNSUPPORTED_MEDIA_TYPE",
            "THROTTLED",
            "INTEGRATION_TIMEOUT",
            "DEFAULT_4XX",
            "DEFAULT_5XX",
        } <= set(responses)
        for name, response in responses.items():
            body = json.loads(response["responseTemplates"]["application/json"])
            headers = response["responseParameters"]
            assert headers["gatewayresponse.header.Content-Type"] == "'application/problem+json; charset=utf-8'", name
            assert headers["gatewayresponse.header.Cache-Control"] == "'no-store'"
            assert {"type", "title", "detail", "instance", "code"} <= set(body)
            assert body["type"] == f"urn:turnlog:problem:{body['code']}"
            assert str(body.get("status")) == str(response.get("statusCode"))
        assert "gatewayresponse.header.WWW-Authenticate" in responses["UNAUTHORIZED"]["responseParameters"]
        for name, response in responses.items():
            waits = response["responseParameters"].get("gatewayresponse.header.Retry-After")
            body = json.loads(response["responseTemplates"]["application/json"])
            assert waits == (f"'{body['retry_after']}'" if "retry_after" in body else None)
            assert waits is not None or response.get("statusCode") not in (429, 503), name

    def test_gateway_and_functions_use_one_vocabulary(self, api: dict[str, Any]) -> None:
        said = {problem.code: problem.title for problem in PROBLEMS.values()}
        for response in api["Body"]["x-amazon-apigateway-gateway-responses"].values():
            body = json.loads(response["responseTemplates"]["application/json"])
            assert body["title"] == said.get(body["code"], body["title"])

    def test_the_authorizers_answer_is_cached_by_the_token(self, api: dict[str, Any]) -> None:
        (authorizer,) = api["Body"]["securityDefinitions"].values()
        assert authorizer["name"] == "Authorization"
        assert authorizer["x-amazon-apigateway-authorizer"]["authorizerResultTtlInSeconds"] == 300


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

    def test_the_keys_of_content_are_kept_and_have_no_backup_that_brings_an_erased_one_back(
        self, of_type: OfType
    ) -> None:
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
        (bucket,) = of_type("AWS::S3::Bucket").values()
        for notification in bucket["Properties"]["NotificationConfiguration"]["LambdaConfigurations"]:
            rules = {rule["Name"]: rule["Value"] for rule in notification["Filter"]["S3Key"]["Rules"]}
            assert rules["prefix"] == "inbox/"
            assert rules["suffix"] in (".txt", ".md")
        permissions = [each["Properties"] for each in of_type("AWS::Lambda::Permission").values()]
        from_s3 = [each for each in permissions if each["Principal"] == "s3.amazonaws.com"]
        assert {json.dumps(each["SourceAccount"]) for each in from_s3} == {'{"Ref": "AWS::AccountId"}'}

    def test_secrets_queues_and_logs_are_under_the_customer_key(self, of_type: OfType) -> None:
        for secret in of_type("AWS::SecretsManager::Secret").values():
            assert secret["Properties"]["KmsKeyId"] == {"Ref": "Key"}
            assert "SecretString" not in secret["Properties"]
        for queue in of_type("AWS::SQS::Queue").values():
            assert queue["Properties"]["KmsMasterKeyId"] == {"Ref": "Key"}
        (logs,) = of_type("AWS::Logs::LogGroup").values()
        assert logs["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}
        assert logs["Properties"]["KmsKeyId"] == {"Fn::GetAtt": ["Key", "Arn"]}
        for key in of_type("AWS::KMS::Key").values():
            assert key["Properties"]["EnableKeyRotation"] is True

    def test_what_people_stored_outlives_the_stack(self, transformed: dict[str, Any]) -> None:
        kept = {name for name, each in transformed["Resources"].items() if each.get("DeletionPolicy") == "Retain"}
        tables = {"SessionsTable", "UsageTable", "KeysTable"}
        assert kept == tables | {"DocumentsBucket", "Key", "ContentKey", "ClaudeKey", "ServerKey"}


def test_content_is_sealed_when_nothing_else_is_said(source: dict[str, Any]) -> None:
    assert source["Parameters"]["ContentEncryption"]["Default"] == "on"


def test_production_is_what_is_deployed_when_nothing_else_is_said(source: dict[str, Any]) -> None:
    assert source["Parameters"]["Environment"]["Default"] == "production"
    assert source["Parameters"]["ClaudeBaseUrl"]["Default"].startswith("https://")
    config = tomllib.loads(Path("samconfig.toml").read_text())
    assert "parameter_overrides" not in config["default"]["deploy"]["parameters"]

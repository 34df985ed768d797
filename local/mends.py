"""Steps of a deploy that MiniStack leaves out silently, done afterwards from the same template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from local.checks import CheckFailed
from local.stack import Aws, Deployed

_PLACEHOLDER = "kept by the launcher"  # MiniStack writes secrets to disk in clear


def mend(aws: Aws, deployed: Deployed, template: dict[str, Any]) -> bool:
    """Enables TTL, applies the gateway's responses, gives the key's secret a value and finds the user pool's keys.

    True when any was missing.
    """
    changed = [
        _enable_ttl(aws, deployed, template),
        _apply_gateway_responses(aws, deployed, template),
        _fill_secret(aws, deployed),
        _find_keys_of_pool(aws, deployed),
    ]
    return any(changed)


def check(aws: Aws, deployed: Deployed, template: dict[str, Any]) -> None:
    """Raises CheckFailed when a table does not expire its items as the template says."""
    for table, attribute in _expiring(deployed, template).items():
        if not _expires_by(aws, table, attribute):
            raise CheckFailed(f"TTL is not enabled on the table {table}")


def _expires_by(aws: Aws, table: str, attribute: str) -> bool:
    found = aws.client("dynamodb").describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    return bool(found["TimeToLiveStatus"] == "ENABLED" and found.get("AttributeName") == attribute)


def _expiring(deployed: Deployed, template: dict[str, Any]) -> dict[str, str]:
    """The TTL attribute of each table that has one, by the table's physical name."""
    wanted = {}
    for logical, table in deployed.named("AWS::DynamoDB::Table").items():
        ttl = template["Resources"][logical]["Properties"].get("TimeToLiveSpecification", {})
        if ttl.get("Enabled"):
            wanted[table] = str(ttl["AttributeName"])
    return wanted


def _enable_ttl(aws: Aws, deployed: Deployed, template: dict[str, Any]) -> bool:
    changed = False
    for table, attribute in _expiring(deployed, template).items():
        if not _expires_by(aws, table, attribute):
            aws.client("dynamodb").update_time_to_live(
                TableName=table, TimeToLiveSpecification={"Enabled": True, "AttributeName": attribute}
            )
            changed = True
    return changed


def _apply_gateway_responses(aws: Aws, deployed: Deployed, template: dict[str, Any]) -> bool:
    """Applies the template's responses with a deployment of the stage, without which they have no effect."""
    client = aws.client("apigateway")
    changed = False
    for logical, api_id in deployed.named("AWS::ApiGateway::RestApi").items():
        api = template["Resources"][logical]["Properties"]
        wanted = {
            kind: _response(each, template["Parameters"]) for kind, each in api.get("GatewayResponses", {}).items()
        }
        present = {each["responseType"]: each for each in client.get_gateway_responses(restApiId=api_id)["items"]}
        if all(present.get(kind, {}).items() >= response.items() for kind, response in wanted.items()):
            continue
        for kind, response in wanted.items():
            client.put_gateway_response(restApiId=api_id, responseType=kind, **response)
        client.create_deployment(restApiId=api_id, stageName=api["StageName"])
        changed = True
    return changed


def _response(written: dict[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A SAM GatewayResponse in the form of API Gateway's own call, with the defaults of its parameters."""
    sent: dict[str, Any] = {}
    if "StatusCode" in written:
        sent["statusCode"] = str(written["StatusCode"])
    headers = written.get("ResponseParameters", {}).get("Headers", {})
    sent["responseParameters"] = {
        f"gatewayresponse.header.{name}": _text(value, parameters) for name, value in headers.items()
    }
    sent["responseTemplates"] = dict(written.get("ResponseTemplates", {}))
    return sent


def _text(written: str | Mapping[str, str], parameters: Mapping[str, Any]) -> str:
    if isinstance(written, str):
        return written
    return re.sub(r"\$\{(\w+)\}", lambda found: str(parameters[found[1]]["Default"]), written["Fn::Sub"])


def _fill_secret(aws: Aws, deployed: Deployed) -> bool:
    secret = deployed.outputs["ClaudeKeySecret"]
    client = aws.client("secretsmanager")
    try:
        client.get_secret_value(SecretId=secret)
    except ClientError:
        client.put_secret_value(SecretId=secret, SecretString=_PLACEHOLDER)
        return True
    return False


def _find_keys_of_pool(aws: Aws, deployed: Deployed) -> bool:
    """Lets the authorizer read the user pool's keys from MiniStack, whose tokens name AWS as their issuer."""
    if "UserPoolId" not in deployed.outputs:
        return False
    client = aws.client("lambda")
    function = deployed.named("AWS::Lambda::Function")["AuthorizerFunction"]
    variables = client.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    keys = {"TOKEN_JWKS_URL": f"{aws.endpoint}/{deployed.outputs['UserPoolId']}/.well-known/jwks.json"}
    if variables.items() >= keys.items():
        return False
    client.update_function_configuration(FunctionName=function, Environment={"Variables": variables | keys})
    return True

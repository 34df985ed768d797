"""Steps of a deploy that MiniStack leaves out silently, done afterwards from the same template.

They bring a role to what the template gives it on AWS, and never to more.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from local.checks import CheckFailed
from local.stack import Aws, Deployed

_PLACEHOLDER = "kept by the launcher"  # MiniStack writes secrets to disk in clear


def mend(aws: Aws, deployed: Deployed, template: dict[str, Any], parameters: Mapping[str, str]) -> bool:
    """Does what is missing of these steps, with the parameters that were given. True when any was missing.

    Enables TTL, applies the gateway's responses and the limits of single methods, gives the key's secret a value, sets
    the boundary of each function's role, lets policies name secrets by their ARNs, and finds the user pool's keys.
    """
    changed = [
        _enable_ttl(aws, deployed, template),
        _apply_gateway_responses(aws, deployed, template, parameters),
        _limit_single_methods(aws, deployed),
        _fill_secret(aws, deployed),
        _set_boundaries(aws, deployed, template),
        _name_secrets(aws, deployed),
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


def _apply_gateway_responses(
    aws: Aws, deployed: Deployed, template: dict[str, Any], parameters: Mapping[str, str]
) -> bool:
    """Applies the template's responses with a deployment of the stage, without which they have no effect."""
    client = aws.client("apigateway")
    values = {name: each.get("Default") for name, each in template["Parameters"].items()} | dict(parameters)
    changed = False
    for logical, api_id in deployed.named("AWS::ApiGateway::RestApi").items():
        api = template["Resources"][logical]["Properties"]
        wanted = {kind: _response(each, template, values) for kind, each in api.get("GatewayResponses", {}).items()}
        present = {each["responseType"]: each for each in client.get_gateway_responses(restApiId=api_id)["items"]}
        if all(present.get(kind, {}).items() >= response.items() for kind, response in wanted.items()):
            continue
        for kind, response in wanted.items():
            client.put_gateway_response(restApiId=api_id, responseType=kind, **response)
        client.create_deployment(restApiId=api_id, stageName=api["StageName"])
        changed = True
    return changed


def _response(written: dict[str, Any], template: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A SAM GatewayResponse in the form of API Gateway's own call, with the values of the template's parameters."""
    sent: dict[str, Any] = {}
    if "StatusCode" in written:
        sent["statusCode"] = str(written["StatusCode"])
    headers = written.get("ResponseParameters", {}).get("Headers", {})
    texts = {name: _text(value, template, values) for name, value in headers.items()}
    sent["responseParameters"] = {
        f"gatewayresponse.header.{name}": text for name, text in texts.items() if text is not None
    }
    sent["responseTemplates"] = dict(written.get("ResponseTemplates", {}))
    return sent


def _text(written: str | Mapping[str, Any], template: Mapping[str, Any], values: Mapping[str, Any]) -> str | None:
    """The text, or None where a condition leaves it out."""
    match written:
        case {"Fn::If": [condition, then, otherwise]}:
            return _text(then if _holds(template["Conditions"][condition], values) else otherwise, template, values)
        case {"Ref": "AWS::NoValue"}:
            return None
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{(\w+)\}", lambda found: str(values[found[1]]), text)
    return str(written)


def _holds(condition: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """True if the condition, a comparison with a parameter, holds by the parameter's value."""
    if "Fn::Not" in condition:
        return not _holds(condition["Fn::Not"][0], values)
    compared, value = condition["Fn::Equals"]
    return bool(values[compared["Ref"]] == value)


def _limit_single_methods(aws: Aws, deployed: Deployed) -> bool:
    """Puts the limits of single methods under the paths that they are for; MiniStack keeps the ~1 of CloudFormation."""
    client = aws.client("apigateway")
    changed = False
    for api_id in deployed.named("AWS::ApiGateway::RestApi").values():
        for stage in client.get_stages(restApiId=api_id)["item"]:
            for method, limits in stage["methodSettings"].items():
                if "~1" not in method or method.replace("~1", "/").replace("//", "/") in stage["methodSettings"]:
                    continue
                wanted = {"rateLimit": limits["throttlingRateLimit"], "burstLimit": limits["throttlingBurstLimit"]}
                operations = [
                    {"op": "replace", "path": f"{method}/throttling/{name}", "value": f"{value:g}"}
                    for name, value in wanted.items()
                ]
                client.update_stage(restApiId=api_id, stageName=stage["stageName"], patchOperations=operations)
                changed = True
    return changed


def _fill_secret(aws: Aws, deployed: Deployed) -> bool:
    secret = deployed.outputs["ClaudeKeySecret"]
    client = aws.client("secretsmanager")
    with contextlib.suppress(ClientError):  # on AWS one has no value before it is given one; here it is empty
        if client.get_secret_value(SecretId=secret)["SecretString"]:
            return False
    client.put_secret_value(SecretId=secret, SecretString=_PLACEHOLDER)
    return True


def _set_boundaries(aws: Aws, deployed: Deployed, template: dict[str, Any]) -> bool:
    """Sets the permissions boundary of each function's role, which MiniStack's CloudFormation leaves out."""
    client = aws.client("iam")
    of_all = template["Globals"]["Function"].get("PermissionsBoundary")
    changed = False
    for function in deployed.named("AWS::Lambda::Function"):
        boundary = template["Resources"][function]["Properties"].get("PermissionsBoundary", of_all)
        role = deployed.named("AWS::IAM::Role").get(f"{function}Role")
        if not boundary or not role:
            continue
        arn = deployed.named("AWS::IAM::ManagedPolicy")[boundary["Ref"]]
        if client.get_role(RoleName=role)["Role"].get("PermissionsBoundary", {}).get("PermissionsBoundaryArn") != arn:
            client.put_role_permissions_boundary(RoleName=role, PermissionsBoundary=arn)
            changed = True
    return changed


def _name_secrets(aws: Aws, deployed: Deployed) -> bool:
    """Puts the ARNs of secrets into policies, as `!Ref` does on AWS; MiniStack puts names, which allow nothing."""
    names = deployed.named("AWS::SecretsManager::Secret").values()
    arns = {name: aws.client("secretsmanager").describe_secret(SecretId=name)["ARN"] for name in names}
    client = aws.client("iam")
    changed = False
    for role in deployed.named("AWS::IAM::Role").values():
        for policy in client.list_role_policies(RoleName=role)["PolicyNames"]:
            document = client.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
            if named := _with_arns(document, arns):
                client.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=named)
                changed = True
    for arn in deployed.named("AWS::IAM::ManagedPolicy").values():
        version = client.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document = client.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        if named := _with_arns(document, arns):
            client.create_policy_version(PolicyArn=arn, PolicyDocument=named, SetAsDefault=True)
            client.delete_policy_version(PolicyArn=arn, VersionId=version)  # there may be five
            changed = True
    return changed


def _with_arns(document: Mapping[str, Any], arns: Mapping[str, str]) -> str:
    """The document with the ARNs of the secrets that it names; empty when it names none."""
    statements = [
        {**each, "Resource": arns.get(each["Resource"], each["Resource"])}
        if isinstance(each.get("Resource"), str)
        else each
        for each in document["Statement"]
    ]
    return "" if statements == document["Statement"] else json.dumps({**document, "Statement": statements})


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

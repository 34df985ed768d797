"""The questions that a deploy asks an AWS account before it changes anything there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired")
_WRONG = ("InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "InvalidAccessKeyId")
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
_NO_LAYER = ("ResourceNotFoundException", "InvalidParameterValueException", *_DENIED)
"""Lambda's answers for a layer that is not there, or is not shared with who asks, or is another Region's."""

DEFAULT_STACK = "turnlog"

Result = TypeVar("Result")


class NotReady(Exception):
    """The account cannot be asked. `mend` is the line that helps."""

    def __init__(self, reason: str, mend: str) -> None:
        super().__init__(reason)
        self.mend = mend


@dataclass(frozen=True, slots=True)
class DeployedStack:
    """A stack that exists: its status, and the values of its parameters and outputs by name.

    `changed` tells one deploy from the next: the time of the last change.
    """

    status: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    changed: object = None


@dataclass(frozen=True, slots=True)
class Concurrency:
    """Lambda's limit on executions at once in the account and Region, and how many of them no function has reserved."""

    limit: int
    unreserved: int


class Account:
    """The account and Region of this machine's credentials. Every method raises NotReady when it gets no answer."""

    def __init__(self) -> None:
        try:
            self._session = boto3.Session(region_name=os.environ.get("AWS_REGION"))  # boto3 reads another name alone
        except ProfileNotFound as error:
            raise NotReady(str(error), "unset AWS_PROFILE, or: aws configure --profile <name>") from error
        if not self._session.region_name:
            raise NotReady("No Region is set.", "export AWS_REGION=eu-central-1")
        self.region: str = self._session.region_name

    @cached_property
    def id(self) -> str:
        """The account's number."""
        return str(_asked(self.client("sts").get_caller_identity)["Account"])

    def client(self, service: str) -> Any:
        """A client that gives up soon: a wrong Region has no endpoint, and a deploy should say so at once."""
        config = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 3, "mode": "standard"})
        return self._session.client(service, config=config)  # type: ignore[call-overload] # the name is a variable

    def stack(self, name: str) -> DeployedStack | None:
        """The stack of that name; None when there is none, or nothing of it but a change that was never made."""
        client = self.client("cloudformation")
        try:
            found = _asked(lambda: client.describe_stacks(StackName=name))["Stacks"][0]
        except ClientError as error:
            if (
                error.response["Error"]["Code"] != "ValidationError"
            ):  # CloudFormation's word for a stack that is not there
                raise
            return None
        if found["StackStatus"] == "REVIEW_IN_PROGRESS":
            return None
        parameters = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])}
        outputs = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}
        changed = found.get("LastUpdatedTime", found["CreationTime"])
        return DeployedStack(found["StackStatus"], parameters, outputs, changed)

    def concurrency(self) -> Concurrency:
        limits = _asked(self.client("lambda").get_account_settings)["AccountLimit"]
        return Concurrency(limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"])

    def gateway_writes_logs(self) -> bool:
        """True if API Gateway has its one role for logs in this account and Region, and the role exists.

        The setting outlives the role: deleting the stack that made it does not reset it.
        """
        arn = _asked(self.client("apigateway").get_account).get("cloudwatchRoleArn", "")
        if not arn:
            return False
        iam = self.client("iam")
        try:
            _asked(lambda: iam.get_role(RoleName=arn.rpartition("/")[2]))
        except iam.exceptions.NoSuchEntityException:
            return False
        return True

    def longest_integration_s(self) -> float:
        """The seconds for which API Gateway waits for a function at most, by the account's quota; 29 if it has none."""
        pages = self.client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="apigateway")
        quotas = _asked(lambda: [each for page in pages for each in page["Quotas"]])
        found = [float(each["Value"]) for each in quotas if "integration timeout" in each["QuotaName"].lower()]
        return max([29_000.0, *found]) / 1000

    @property
    def partition(self) -> str:
        """The part of AWS that the Region belongs to, such as `aws` or `aws-cn`."""
        return self._session.get_partition_for_region(self.region)

    def has_layer(self, arn: str) -> bool:
        """True if functions of this account and Region can have that version of a layer."""

        def find() -> bool:
            try:
                self.client("lambda").get_layer_version_by_arn(Arn=arn)
            except ClientError as error:
                if error.response["Error"]["Code"] in _NO_LAYER:
                    return False
                raise
            return True

        return _asked(find)

    def has_value(self, secret: str) -> bool:
        """True if the secret has a value, which is not read."""
        described = _asked(lambda: self.client("secretsmanager").describe_secret(SecretId=secret))
        return any("AWSCURRENT" in stages for stages in described.get("VersionIdsToStages", {}).values())


def _asked(call: Callable[[], Result]) -> Result:
    """Returns the answer. Raises NotReady when credentials, rights or the network are why there is none."""
    try:
        return call()
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise NotReady("There are no AWS credentials.", "aws configure, or: aws configure sso") from error
    except (SSOError, TokenRetrievalError) as error:
        raise NotReady("The AWS session has expired.", "aws sso login") from error
    except EndpointConnectionError as error:
        raise NotReady(f"AWS cannot be reached: {error}", "check AWS_REGION and the network") from error
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _EXPIRED:
            raise NotReady("The AWS session has expired.", "aws sso login, or new AWS_… variables") from error
        if code in _WRONG:
            raise NotReady("AWS does not know these credentials.", "aws configure") from error
        if code in _DENIED:
            raise NotReady(f"These credentials may not do it: {error}", "use a role that may deploy") from error
        raise
    except BotoCoreError as error:
        raise NotReady(f"AWS cannot be asked: {error}", "aws sts get-caller-identity") from error

"""The AWS account of the deployment, or MiniStack: its stack's outputs and its services."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    TokenRetrievalError,
)

from tests.smoke.outcome import LeftOut, Unexpected
from tests.smoke.target import Target

_NO_CREDENTIALS = (NoCredentialsError, CredentialRetrievalError, TokenRetrievalError)
_WITHOUT_RIGHT = {
    *("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
    *("InvalidClientTokenId", "UnrecognizedClientException", "ExpiredToken", "ExpiredTokenException"),
}


class Account:
    """Clients with the credentials of this shell; with MiniStack's own for a stack on this machine."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """The client of a service, such as `s3`. Raises LeftOut without credentials."""
        if service not in self._clients:
            with answers(f"a client of {service}"):
                self._clients[service] = self._session.client(  # type: ignore[call-overload] # the name is a variable
                    service,
                    endpoint_url=self._endpoint,
                    config=Config(
                        connect_timeout=10,
                        retries={"total_max_attempts": 3, "mode": "standard"},
                        s3={"addressing_style": "path"} if self._endpoint else {},
                    ),
                )
        return self._clients[service]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    @property
    def bucket(self) -> str:
        """The bucket of documents. Raises LeftOut when it is not known."""
        return self._target.bucket or self.outputs.get("DocumentsBucketName", "")

    @cached_property
    def outputs(self) -> Mapping[str, str]:
        """The outputs of the target's stack. Raises LeftOut when they cannot be had, or are another API's."""
        name = self._target.stack
        client = self.client("cloudformation")
        try:
            with answers(f"the stack {name}"):
                found = client.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":
                raise Unexpected(f"the stack {name} cannot be read: {error}") from error
            raise LeftOut(f"there is no stack {name} in this account and Region: STACK=<its name>") from error
        outputs = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}
        if not self._target.is_local and outputs.get("ApiUrl") != self._target.url:
            raise LeftOut(f"the stack {name} has another URL: STACK=<the name of this one's>")
        return outputs

    @cached_property
    def _session(self) -> boto3.Session:
        if self._target.is_local:
            return boto3.Session("test", "test", region_name="us-east-1")
        session = boto3.Session(region_name=self._target.region)
        if session.get_credentials() is None:
            raise LeftOut("needs AWS credentials of the deployment's account in this shell")
        return session

    @cached_property
    def _endpoint(self) -> str | None:
        """MiniStack's address; None for AWS. Raises LeftOut when the local stack is another one's."""
        if not self._target.is_local:
            return None
        file = self._target.state / "run.json"
        try:
            ran: dict[str, Any] = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise LeftOut(f"needs {file} of the stack that runs: --state <its folder>") from error
        if ran.get("api_url") != self._target.url:
            raise LeftOut(f"{file} is of a stack with another URL: --state <the folder of this one>")
        return str(ran["aws_endpoint"])


@contextmanager
def answers(what: str) -> Iterator[None]:
    """Raises LeftOut when AWS does not let these credentials have `what`, Unexpected when it cannot be asked.

    Any other error of AWS, a ClientError, is raised as it is.
    """
    try:
        yield
    except _NO_CREDENTIALS as error:
        raise LeftOut(f"needs AWS credentials of the deployment's account in this shell ({error})") from error
    except BotoCoreError as error:
        raise Unexpected(f"AWS cannot be asked for {what}: {type(error).__name__}") from error
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _WITHOUT_RIGHT:
            raise LeftOut(f"these AWS credentials may not have {what} ({code})") from error
        raise

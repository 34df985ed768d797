"""The roles of the functions as they are deployed: what each may do, and one permission taken away for a while."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from local.stack import NAME
from tests.e2e.stack import Stack

_OF_AWS = "arn:aws:iam::aws:policy/"  # AWS's own policies, by which Lambda writes logs and traces for a function
_TAKEN = "taken-away"


@dataclass(frozen=True, order=True, slots=True)
class Permission:
    """A function may do `action`, such as `s3:GetObject`, with `resource`, such as `DocumentsBucket/inbox/*`."""

    function: str
    action: str
    resource: str

    def __str__(self) -> str:
        return f"{self.function} {self.action} {self.resource}"


class Roles:
    """The roles of the functions of a stack, as IAM has them."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._iam = stack.client("iam")
        with closing(stack.client("cloudformation")) as client:
            found = client.describe_stack_resources(StackName=NAME)["StackResources"]
        physical = {each["LogicalResourceId"]: str(each["PhysicalResourceId"]) for each in found}
        functions = [each["LogicalResourceId"] for each in found if each["ResourceType"] == "AWS::Lambda::Function"]
        self._names = {function: physical[f"{function}Role"] for function in functions}
        self._physical = physical
        queues = {each["LogicalResourceId"] for each in found if each["ResourceType"] == "AWS::SQS::Queue"}
        # A queue's physical name is its URL, which ends with the name in its ARN.
        self._logical: dict[str, str] = {
            name.rpartition("/")[2] if logical in queues else name: logical for logical, name in physical.items()
        }

    def close(self) -> None:
        self._iam.close()

    @cached_property
    def permissions(self) -> dict[Permission, list[str]]:
        """Every permission that the stack gives, with the ARNs of its resource."""
        found: dict[Permission, list[str]] = {}
        for function, role in self._names.items():
            for statement in self._statements(role):
                for arn in _listed(statement["Resource"]):
                    for action in _listed(statement["Action"]):
                        permission = Permission(function, action, self._resource(arn))
                        found.setdefault(permission, []).append(arn)
        return found

    @contextmanager
    def without(self, permission: Permission) -> Iterator[None]:
        """Takes the permission from its role for the block, whatever gives it."""
        denied = {"Effect": "Deny", "Action": permission.action, "Resource": self.permissions[permission]}
        document = json.dumps({"Version": "2012-10-17", "Statement": [denied]})
        role = self._names[permission.function]
        self._iam.put_role_policy(RoleName=role, PolicyName=_TAKEN, PolicyDocument=document)
        try:
            yield
        finally:
            self._iam.delete_role_policy(RoleName=role, PolicyName=_TAKEN)

    @contextmanager
    def as_function(self, function: str) -> Iterator[Callable[[str], Any]]:
        """Yields what makes clients of services, which may do what the function may."""
        role = self._iam.get_role(RoleName=self._names[function])["Role"]
        self._trust(
            role["RoleName"], {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}
        )
        try:
            with closing(self._stack.client("sts")) as sts:
                session = sts.assume_role(RoleArn=role["Arn"], RoleSessionName=function)["Credentials"]
        finally:
            self._trust(role["RoleName"], role["AssumeRolePolicyDocument"])
        with ExitStack() as clients:
            yield lambda service: clients.enter_context(closing(self._stack.client(service, session)))

    def _trust(self, role: str, document: Mapping[str, Any]) -> None:
        written = json.dumps({"Version": "2012-10-17", **document})
        self._iam.update_assume_role_policy(RoleName=role, PolicyDocument=written)

    def physical(self, logical: str) -> str:
        """The name or id of a resource of the template."""
        return self._physical[logical]

    def _statements(self, role: str) -> Iterator[dict[str, Any]]:
        for name in self._iam.list_role_policies(RoleName=role)["PolicyNames"]:
            yield from self._iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]["Statement"]
        for policy in self._iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
            arn = policy["PolicyArn"]
            if not arn.startswith(_OF_AWS):
                version = self._iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
                document = self._iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
                yield from document["Statement"]

    def _resource(self, arn: str) -> str:
        """The name of a resource in the template, and the part of it that the ARN names, such as `/inbox/*`."""
        name = max((name for name in self._logical if name in arn), key=len)
        rest = arn.partition(name)[2]
        return self._logical[name] + (rest if rest.startswith("/") else "")


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]

"""Reasons not to deploy, found before anything is created, each with the line that mends it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from local import parameters
from local.aws.account import Account, Concurrency, DeployedStack
from local.aws.plan import Plan
from local.template import adapter_layer, function_names

KEPT_UNRESERVED = 100
"""Executions that Lambda does not let an account reserve (Lambda quotas)."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,127}")  # CloudFormation's rule for a stack's name
_KEY = re.compile(r"[\x21-\x7e]{8,400}")  # what a header can carry
_LONGEST_WITHOUT_QUOTA_S = 29
_WAITERS = {  # of `aws cloudformation wait`, by how a status begins; none ends well after a first deploy's rollback
    "CREATE": "stack-create-complete",
    "UPDATE_ROLLBACK": "stack-rollback-complete",
    "UPDATE": "stack-update-complete",
    "DELETE": "stack-delete-complete",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A reason not to begin, and the line that mends it."""

    reason: str
    mend: str


def of_plan(plan: Plan) -> Iterator[Problem]:
    """Yields what is wrong with the plan itself, without asking AWS."""
    if not _NAME.fullmatch(plan.stack):
        yield Problem(
            f"{plan.stack!r} is no name of a stack: 1 to 128 letters, digits and hyphens, a letter first.",
            "make deploy STACK=turnlog",
        )
    if plan.asks and not sys.stdin.isatty():
        yield Problem("Nobody is at this terminal who could confirm the changes.", "make deploy YES=1")
    if plan.claude_key and not _KEY.fullmatch(plan.claude_key):
        yield Problem("ANTHROPIC_API_KEY is no API key: it has spaces or other letters.", "export ANTHROPIC_API_KEY=…")


def of_values(values: Mapping[str, str]) -> Iterator[Problem]:
    """Yields the values of parameters that the template does not take."""
    for fault in parameters.faults(values):
        yield Problem(f"{fault}.", "make deploy PARAMETERS='Name=value …'; template.yaml describes each")
    if values.get("CorsOrigin", "").startswith("http://") and values.get("Environment") != "local":
        yield Problem("CorsOrigin needs https in production.", "make deploy PARAMETERS='CorsOrigin=https://…'")


def of_account(plan: Plan, account: Account) -> Iterator[Problem]:
    """Yields what the account has against the plan. Raises NotReady when it cannot be asked."""
    stack = account.stack(plan.stack)
    if stack and (problem := _of_status(plan.stack, stack.status)):
        yield problem
        return
    yield from _of_key(plan, account, stack)
    yield from _of_concurrency(plan, account.concurrency(), stack)
    yield from _of_timeout(plan, account)
    yield from _of_adapter(plan, account, stack)


def _of_status(name: str, status: str) -> Problem | None:
    named = f"--stack-name {name}"
    delete = f"aws cloudformation delete-stack {named} && aws cloudformation wait stack-delete-complete {named}"
    if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED"):
        return Problem(f"The stack {name} was never complete ({status}); its tables are empty and stay.", delete)
    if status == "DELETE_FAILED":
        return Problem(f"The stack {name} was not deleted to the end.", delete)
    if status == "UPDATE_ROLLBACK_FAILED":
        return Problem(
            f"The stack {name} stands between two versions.", f"aws cloudformation continue-update-rollback {named}"
        )
    if status.endswith("_IN_PROGRESS"):
        waited = next((waiter for begin, waiter in _WAITERS.items() if status.startswith(begin)), "")
        mend = f"aws cloudformation wait {waited} {named}" if waited else "make deploy again in some minutes"
        return Problem(f"Somebody else changes the stack {name} now ({status}).", mend)
    return None


def _of_key(plan: Plan, account: Account, stack: DeployedStack | None) -> Iterator[Problem]:
    secret = stack.outputs.get("ClaudeKeySecret") if stack else None
    if not plan.claude_key and not (secret and account.has_value(secret)):
        yield Problem("The key for Claude is not put in yet.", "export ANTHROPIC_API_KEY=…, then make deploy again")


def _of_concurrency(plan: Plan, account: Concurrency, stack: DeployedStack | None) -> Iterator[Problem]:
    count = len(function_names())
    held = int(stack.parameters.get("ReservedConcurrency", 0)) * count if stack else 0
    wanted = int(plan.value("ReservedConcurrency", stack)) * count
    if wanted > held and account.unreserved + held - wanted < KEPT_UNRESERVED:
        most = max(0, (account.unreserved + held - KEPT_UNRESERVED) // count)
        yield Problem(
            f"{wanted} executions for {count} functions cannot be reserved: {account.unreserved + held} of the "
            f"account's {account.limit} are free, and Lambda keeps {KEPT_UNRESERVED} of them.",
            f"make deploy PARAMETERS=ReservedConcurrency={most}",
        )


def _of_timeout(plan: Plan, account: Account) -> Iterator[Problem]:
    seconds = int(plan.parameters.get("GatewaySeconds", _LONGEST_WITHOUT_QUOTA_S))
    if seconds > _LONGEST_WITHOUT_QUOTA_S and seconds > (most := account.longest_integration_s()):
        yield Problem(
            f"API Gateway waits {most:g} s at most in this account and Region, not {seconds}.",
            "ask for a higher quota of API Gateway, “Maximum integration timeout”, or leave GatewaySeconds out",
        )


def _of_adapter(plan: Plan, account: Account, stack: DeployedStack | None) -> Iterator[Problem]:
    """Yields what keeps the function that streams from AWS's Lambda Web Adapter."""
    if plan.value("Environment", stack) == "local":
        return
    own = plan.value("AdapterLayer", stack)
    arn = own or adapter_layer(account.partition, account.region)
    if arn and account.has_layer(arn):
        return
    where = f"in {account.region}{f' as {arn}' if arn else ''}"
    said = "AdapterLayer names none that can be used" if own else "AWS publishes none that can be used"
    yield Problem(
        f"The function that streams needs the Lambda Web Adapter, and {said} {where}.",
        "make deploy PARAMETERS=AdapterLayer=<the ARN of a copy>; docs/operations.md says how to make one",
    )

"""The deploy to AWS: looks first, builds, deploys, puts the key in, and tries the service with the smoke test.

`make deploy` runs it; Plan.read says which variables it takes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

from botocore.exceptions import ClientError

from local import parameters
from local.aws import readiness
from local.aws.account import Account, DeployedStack, NotReady
from local.aws.plan import Plan
from local.aws.readiness import Problem
from local.aws.user_pool import OWN_POOL, UserPoolError, pool_of
from local.state import ROOT
from local.template import known_models

sys.path.append(str(ROOT / "layers" / "turnlog" / "python"))  # Lambda mounts it; here nobody does
from turnlog.adapters.jwt_tokens import find_keys
from turnlog.domain.models import model_of
from turnlog.errors import IssuerUnavailable

SOON = timedelta(days=60)
"""The time before a model's retirement in which each deploy says so; its provider announces it as long before."""

Run = Callable[[Sequence[str], Mapping[str, str]], int]
"""Runs a command with more environment variables, and returns its exit code."""


def deploy(
    plan: Plan,
    run: Run,
    token: str = "",
    open_account: Callable[[], Account] = Account,
    today: Callable[[], date] = lambda: datetime.now(UTC).date(),
) -> int:
    """Returns 0, 1 when a step or the smoke test failed, 2 when something must be mended before it can begin.

    `token` is the smoke test's where the stack has an issuer of one's own.
    """
    problems = list(readiness.of_plan(plan))
    values = dict(plan.parameters)
    try:
        values |= _issuer_parameters(plan)
    except IssuerUnavailable as error:
        problems.append(Problem(f"Nobody could sign in: {error}.", "ISSUER=…, as docs/issuers.md has it"))
    problems += readiness.of_values(values)
    try:
        account = open_account()
        _say(f"account {account.id}, Region {account.region}, stack {plan.stack}")
        if not problems:
            problems += readiness.of_account(plan, account)
        before = account.stack(plan.stack)
    except NotReady as error:
        problems.append(Problem(str(error), error.mend))
    if problems:
        return _refuse(problems)
    if before is None and "GatewayLogRole" not in values and account.gateway_writes_logs():
        values["GatewayLogRole"] = "exists"
        _say("API Gateway writes logs here already; its role stays as it is")
    _say_change_of_issuer(values, before)
    _say_ends_of_models(plan.value("ClaudeModels", before), today())
    if run(["sam", "build"], {}) != 0 or run(_sam_deploy(plan, account.region, values), {}) != 0:
        return 1
    after = account.stack(plan.stack)
    if after is None or (before and after.changed == before.changed):  # SAM ends well when its question is answered no
        _say("nothing was deployed")
        return 1
    if plan.claude_key:
        secret = after.outputs["ClaudeKeySecret"]
        account.client("secretsmanager").put_secret_value(SecretId=secret, SecretString=plan.claude_key)
        _say("the key for Claude is put in")
    print(_welcome(plan, after), flush=True)
    return _smoke(plan, account, after, run, token)


def _issuer_parameters(plan: Plan) -> dict[str, str]:
    """The parameters that name the issuer; none when the stack keeps what it has. Raises IssuerUnavailable."""
    if not plan.issuer:
        return {}
    if plan.issuer == OWN_POOL:
        return {"TokenIssuer": "", "TokenJwksUrl": ""}
    return {"TokenIssuer": plan.issuer, "TokenJwksUrl": find_keys(plan.issuer, plan.jwks_url)}


def _refuse(problems: Sequence[Problem]) -> int:
    print("Nothing was created or changed.", file=sys.stderr)
    for each in problems:
        print(f"- {each.reason}\n    {each.mend}", file=sys.stderr)
    return 2


def _say_change_of_issuer(values: Mapping[str, str], before: DeployedStack | None) -> None:
    had = before.parameters.get("TokenIssuer", "") if before else None
    if had is not None and values.get("TokenIssuer", had) != had:
        _say("the issuer changes: people who come with its tokens are new here, and their earlier sessions stay behind")
        if not values["TokenIssuer"]:
            _say("the stack makes a new user pool, with nobody in it; one that it had before stays beside it")


def _say_ends_of_models(named: str, today: date) -> None:
    """Warns of models that have retired or soon will; of those that this version knows when none are `named`."""
    for name in (named or known_models()).split(","):
        model = model_of(name.strip())
        if model and model.retires and model.retires - today <= SOON:
            verb = "has retired" if model.retires <= today else "retires"
            _say(f"{model.id} {verb} on {model.retires}: take {model.successor} into ClaudeModels instead")


def _sam_deploy(plan: Plan, region: str, values: Mapping[str, str]) -> list[str]:
    command = ["sam", "deploy", "--stack-name", plan.stack, "--region", region]
    if not plan.asks:
        command.append("--no-confirm-changeset")
    return [*command, "--parameter-overrides", *parameters.overrides(values)] if values else command


def _welcome(plan: Plan, stack: DeployedStack) -> str:
    lines = ["", f"Turnlog: {stack.outputs['ApiUrl']}"]
    named = "" if plan.stack == "turnlog" else f" STACK={plan.stack}"
    if "UserPoolId" in stack.outputs:
        lines += [
            f"A user, and its password:  make user-aws USER=ada{named}",
            f"A token for an hour:       make token-aws USER=ada{named}",
        ]
    else:
        lines += [f"Tokens come from {stack.parameters['TokenIssuer']}."]
    if base_url := stack.outputs.get("MessagesBaseUrl"):  # a stack that was rolled back has none
        lines.append(f"For Anthropic's clients:   ANTHROPIC_BASE_URL={base_url} ANTHROPIC_AUTH_TOKEN=<the token>")
    return "\n".join([*lines, "docs/api.md has the routes; the smoke test tries them now:", ""])


def _smoke(plan: Plan, account: Account, stack: DeployedStack, run: Run, token: str) -> int:
    asked = {"url": stack.outputs["ApiUrl"], "stack": plan.stack, "bucket": stack.outputs["DocumentsBucketName"]}
    if (origin := stack.parameters.get("CorsOrigin", "closed")) != "closed":
        asked["origin"] = origin
    arguments = [word for name, value in asked.items() for word in (f"--{name}", value)]
    with _token(account, stack, token) as proof:
        return run([sys.executable, "-m", "tests.smoke", *arguments], {"SMOKE_TOKEN": proof} if proof else {})


@contextmanager
def _token(account: Account, stack: DeployedStack, token: str) -> Iterator[str]:
    """Yields the token for the smoke test: the one given, or one of a user who is there for that long; else none."""
    pool = pool_of(stack.outputs, lambda: account.client("cognito-idp"))
    if token or pool is None:
        yield token
        return
    with pool.passing_user() as made:
        yield made


def _say(text: str) -> None:
    print(text, flush=True)


def _run(command: Sequence[str], more: Mapping[str, str]) -> int:
    return subprocess.run(command, env={**os.environ, **more}, check=False).returncode


def main() -> int:
    """Deploys by the environment's variables. Returns the exit code."""
    try:
        plan = Plan.read(os.environ)
    except ValueError as error:
        return _refuse([Problem(f"PARAMETERS cannot be read: {error}.", "make deploy PARAMETERS='Name=value …'")])
    try:
        return deploy(plan, _run, os.environ.get("TOKEN", ""))
    except (ClientError, NotReady, UserPoolError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

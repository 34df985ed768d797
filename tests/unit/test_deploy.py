"""`make deploy`: what would fail late on AWS is said before anything is created, with the line that mends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    TokenRetrievalError,
)
from samcli.yamlhelper import yaml_parse

from local import parameters
from local.aws import account as aws
from local.aws import deploy
from local.aws.account import Account, Concurrency, DeployedStack, NotReady
from local.aws.plan import Plan
from local.aws.user_pool import OWN_POOL
from local.template import adapter_layer, declared_parameters, function_names
from turnlog.errors import IssuerUnavailable

KEY = "sk-ant-for-this-test"
URL = "https://api.example/v1"
BASE_URL = "https://api.example"
OUTPUTS = {
    "ApiUrl": URL,
    "MessagesBaseUrl": BASE_URL,
    "ClaudeKeySecret": "the-secret",
    "DocumentsBucketName": "documents",
}
ADAPTER = adapter_layer("aws", "eu-central-1")
COPY = "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:layer:adapter:1"
POOL = {"UserPoolId": "pool", "UserPoolClientId": "client"}


def stack(status: str = "CREATE_COMPLETE", pool: bool = True, **values: str) -> DeployedStack:
    known = {"TokenIssuer": "" if pool else "https://issuer.example/", "ReservedConcurrency": "0"}
    return DeployedStack(status, known | values, OUTPUTS | (POOL if pool else {}))


class Secrets:
    def __init__(self) -> None:
        self.put: list[tuple[str, str]] = []

    def put_secret_value(self, SecretId: str, SecretString: str) -> None:  # noqa: N803 (boto3's names)
        self.put.append((SecretId, SecretString))


class Pool:
    """A `cognito-idp` client of which only what a passing user needs works."""

    def __init__(self) -> None:
        self.users: set[str] = set()
        self.exceptions = type("Exceptions", (), dict.fromkeys(("UsernameExistsException",), KeyError))

    def admin_create_user(self, Username: str, **_: str) -> None:  # noqa: N803
        self.users.add(Username)

    def admin_list_groups_for_user(self, **_: str) -> dict[str, Any]:
        return {"Groups": []}

    def admin_set_user_password(self, **_: object) -> None: ...

    def admin_initiate_auth(self, **_: object) -> dict[str, Any]:
        return {"AuthenticationResult": {"AccessToken": "token of a passing user"}}

    def admin_delete_user(self, Username: str, **_: str) -> None:  # noqa: N803
        self.users.discard(Username)


class TestAccount(Account):
    """An account with the facts that it is given; `after` is the stack once SAM has run."""

    __test__ = False
    id = "123456789012"

    def __init__(
        self,
        before: DeployedStack | None = None,
        *,
        limit: int = 1000,
        has_value: bool = True,
        has_log_role: bool = False,
        after: DeployedStack | None = None,
        region: str = "eu-central-1",
        layers: Sequence[str] = (ADAPTER,),
    ) -> None:
        self.region = region
        self.layers = layers
        self.stacks = [before]
        self.after = after or before or stack()
        self.limit = limit
        self.value = has_value
        self.log_role = has_log_role
        self.secrets, self.people = Secrets(), Pool()

    def client(self, service: str) -> Any:
        return {"secretsmanager": self.secrets, "cognito-idp": self.people}[service]

    def stack(self, name: str) -> DeployedStack | None:
        return self.stacks[-1]

    def concurrency(self) -> Concurrency:
        return Concurrency(self.limit, self.limit)

    def gateway_writes_logs(self) -> bool:
        return self.log_role

    def longest_integration_s(self) -> float:
        return 29.0

    @property
    def partition(self) -> str:
        return boto3.Session().get_partition_for_region(self.region)

    def has_layer(self, arn: str) -> bool:
        return arn in self.layers

    def has_value(self, secret: str) -> bool:
        return self.value


class Commands:
    """Notes what is run; SAM's deploy makes the account's stack."""

    def __init__(self, account: TestAccount, failing: str = "") -> None:
        self._account = account
        self._failing = failing
        self.ran: list[list[str]] = []
        self.token = ""
        self.declined = False

    def __call__(self, command: Sequence[str], more: Mapping[str, str]) -> int:
        self.ran.append(list(command))
        if command[:2] == ["sam", "deploy"] and not self.declined:
            self._account.stacks.append(replace(self._account.after, changed="now"))
        if "tests.smoke" in command:
            self.token = more.get("SMOKE_TOKEN", "")
            assert bool(self._account.people.users) == (self.token == "token of a passing user")
        return 1 if self._failing and self._failing in command else 0

    @property
    def overrides(self) -> list[str]:
        (deployed,) = [each for each in self.ran if each[:2] == ["sam", "deploy"]]
        return deployed[deployed.index("--parameter-overrides") + 1 :] if "--parameter-overrides" in deployed else []


def plan(**asked: str) -> Plan:
    return Plan.read({"ANTHROPIC_API_KEY": KEY, "YES": "1", **asked})


def begin(
    asked: Plan, account: TestAccount, token: str = "", failing: str = "", today: date = date(2026, 11, 29)
) -> tuple[int, Commands]:
    commands = Commands(account, failing)
    return deploy.deploy(asked, commands, token, lambda: account, lambda: today), commands


def test_a_first_deploy_builds_deploys_puts_the_key_in_and_tries_the_service(
    capsys: pytest.CaptureFixture[str],
) -> None:
    account = TestAccount()
    code, commands = begin(plan(), account)
    assert code == 0
    assert [each[1] for each in commands.ran[:2]] == ["build", "deploy"]
    assert account.secrets.put == [("the-secret", KEY)]
    assert commands.ran[2][1:3] == ["-m", "tests.smoke"]
    assert URL in commands.ran[2]
    said = capsys.readouterr().out
    assert "make user-aws USER=ada" in said
    assert "make token-aws USER=ada" in said
    assert f"ANTHROPIC_BASE_URL={BASE_URL} ANTHROPIC_AUTH_TOKEN=" in said
    assert KEY not in said


def test_the_smoke_test_has_a_user_of_its_own_who_is_gone_after_it() -> None:
    account = TestAccount()
    _, commands = begin(plan(), account)
    assert commands.token == "token of a passing user"
    assert account.people.users == set()
    _, commands = begin(plan(), TestAccount(stack(pool=False)), token="a token of theirs")
    assert commands.token == "a token of theirs"


def test_the_smoke_test_is_told_which_origin_may_call() -> None:
    open_to_one = stack(CorsOrigin="https://app.example")
    assert begin(plan(), TestAccount(after=open_to_one))[1].ran[-1][-2:] == ["--origin", "https://app.example"]
    assert "--origin" not in begin(plan(), TestAccount())[1].ran[-1]


@pytest.mark.parametrize("failing", ["build", "deploy", "tests.smoke"])
def test_a_step_that_fails_fails_the_deploy(failing: str) -> None:
    code, commands = begin(plan(), TestAccount(), failing=failing)
    assert code == 1
    assert failing in commands.ran[-1]


@pytest.mark.parametrize(
    ("models", "today", "said"),
    [
        ("claude-opus-4-5-20251101, claude-sonnet-5-5", date(2026, 11, 22), ""),
        ("claude-opus-4-5-20251101, claude-sonnet-5-5", date(2026, 11, 23), "claude-opus-4-5 retires on 2027-01-22"),
        ("claude-opus-4-5", date(2027, 1, 22), "claude-opus-4-5 has retired on 2027-01-22: take claude-opus-5-5"),
        ("us.anthropic.claude-opus-4-5-20251101-v1:0,of-another-maker", date(2027, 1, 22), ""),
    ],
)
def test_a_deploy_warns_of_models_that_retire_soon(
    capsys: pytest.CaptureFixture[str], models: str, today: date, said: str
) -> None:
    deployed = TestAccount(stack(ClaudeModels=models))
    assert begin(plan(), deployed, today=today)[0] == 0
    printed = capsys.readouterr().out
    assert said in printed
    assert ("retire" in printed) == bool(said)


def test_a_deploy_warns_of_the_models_that_it_offers_by_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy, "known_models", lambda: "claude-sonnet-5-5,claude-opus-4-5")
    begin(plan(), TestAccount())
    assert "claude-opus-4-5 retires on 2027-01-22" in capsys.readouterr().out


BUSY = {
    "CREATE_IN_PROGRESS": "wait stack-create-complete",
    "ROLLBACK_IN_PROGRESS": "again in some minutes",
    "UPDATE_IN_PROGRESS": "wait stack-update-complete",
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": "wait stack-update-complete",
    "UPDATE_ROLLBACK_IN_PROGRESS": "wait stack-rollback-complete",
    "DELETE_IN_PROGRESS": "wait stack-delete-complete",
}


def in_status(status: str) -> Callable[[], TestAccount]:
    return lambda: TestAccount(stack(status))


PROBLEMS: dict[str, tuple[Callable[[], Plan], Callable[[], TestAccount], str, str]] = {
    "a name with a digit first": (lambda: plan(STACK="1x"), TestAccount, "no name of a stack", "STACK="),
    "a name of 129 characters": (lambda: plan(STACK="x" * 129), TestAccount, "no name of a stack", "STACK="),
    "an unknown parameter": (lambda: plan(PARAMETERS="Nope=1"), TestAccount, "no parameter Nope", "PARAMETERS="),
    "out of range": (lambda: plan(PARAMETERS="SessionTurns=-1"), TestAccount, "0 or more", "PARAMETERS="),
    "a word for a number": (lambda: plan(PARAMETERS="SessionTurns=many"), TestAccount, "a number", "PARAMETERS="),
    "days that CloudWatch refuses": (lambda: plan(PARAMETERS="LogRetentionDays=31"), TestAccount, "one of", "PARAM"),
    "an origin with a path": (
        lambda: plan(PARAMETERS="CorsOrigin=https://app.example/"),
        TestAccount,
        "must be like",
        "PARAMETERS=",
    ),
    "a page on one's own machine": (
        lambda: plan(PARAMETERS="CorsOrigin=http://localhost:5173"),
        TestAccount,
        "needs https in production",
        "CorsOrigin=https://",
    ),
    "no key": (lambda: Plan.read({"YES": "1"}), TestAccount, "not put in yet", "ANTHROPIC_API_KEY="),
    "a secret without a value": (
        lambda: Plan.read({"YES": "1"}),
        lambda: TestAccount(stack(), has_value=False),
        "not put in yet",
        "ANTHROPIC_API_KEY=",
    ),
    "a key with a line end in it": (
        lambda: plan(ANTHROPIC_API_KEY="two\nlines of it"),
        TestAccount,
        "no API key",
        "exp",
    ),
    "a first deploy that failed": (
        plan,
        lambda: TestAccount(stack("ROLLBACK_COMPLETE")),
        "never complete",
        "delete-stack --stack-name turnlog",
    ),
    "half an update": (
        plan,
        lambda: TestAccount(stack("UPDATE_ROLLBACK_FAILED")),
        "between two versions",
        "continue-update-rollback",
    ),
    **{f"a stack in {status}": (plan, in_status(status), "Somebody else", mend) for status, mend in BUSY.items()},
    "a delete that failed": (
        plan,
        in_status("DELETE_FAILED"),
        "not deleted to the end",
        "delete-stack",
    ),
    "nobody to ask": (lambda: plan(YES=""), TestAccount, "Nobody is at this terminal", "YES=1"),
    "a new account": (
        lambda: plan(PARAMETERS="ReservedConcurrency=1"),
        lambda: TestAccount(limit=10),
        "cannot be reserved",
        "ReservedConcurrency=0",
    ),
    "one more than there is": (
        lambda: plan(PARAMETERS="ReservedConcurrency=82"),
        lambda: TestAccount(limit=1000),
        "cannot be reserved",
        f"ReservedConcurrency={900 // len(function_names())}",
    ),
    "a Region without the adapter": (
        plan,
        lambda: TestAccount(region="me-south-1"),
        "AWS publishes none that can be used in me-south-1 as arn:aws:lambda:me-south-1:753240598075:layer:",
        "AdapterLayer=",
    ),
    "a partition without it": (
        plan,
        lambda: TestAccount(region="us-gov-west-1", layers=[COPY]),
        "AWS publishes none that can be used in us-gov-west-1.",
        "AdapterLayer=",
    ),
    "a copy that is not there": (
        lambda: plan(PARAMETERS=f"AdapterLayer={COPY}"),
        TestAccount,
        f"AdapterLayer names none that can be used in eu-central-1 as {COPY}",
        "AdapterLayer=",
    ),
    "no ARN of a layer": (
        lambda: plan(PARAMETERS="AdapterLayer=lambda-web-adapter"),
        TestAccount,
        "must be like",
        "PARAMETERS=",
    ),
    "an issuer without TLS": (lambda: plan(ISSUER="http://issuer.example/"), TestAccount, "https://", "ISSUER="),
}


@pytest.mark.parametrize(("asked", "account", "reason", "mend"), PROBLEMS.values(), ids=PROBLEMS)
def test_what_would_fail_is_said_before_anything_is_created(
    asked: Callable[[], Plan],
    account: Callable[[], TestAccount],
    reason: str,
    mend: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, commands = begin(asked(), account())
    assert (code, commands.ran) == (2, [])
    seen = capsys.readouterr().err
    assert seen.startswith("Nothing was created or changed.")
    assert reason in seen
    assert mend in seen


@pytest.mark.parametrize("name", ["a", "T" * 128, "My-Team-Turnlog-2"])
def test_every_name_that_a_stack_may_have_is_taken(name: str) -> None:
    code, commands = begin(plan(STACK=name), TestAccount())
    assert code == 0
    assert name in commands.ran[1]


@pytest.mark.parametrize(
    ("region", "arn"),
    [
        ("eu-central-1", "arn:aws:lambda:eu-central-1:753240598075:layer:LambdaAdapterLayerArm64:30"),
        ("cn-north-1", "arn:aws-cn:lambda:cn-north-1:041581134020:layer:LambdaAdapterLayerArm64:30"),
        ("cn-northwest-1", "arn:aws-cn:lambda:cn-northwest-1:069767869989:layer:LambdaAdapterLayerArm64:30"),
    ],
)
def test_the_adapter_of_the_region_is_asked_for_before_a_deploy(region: str, arn: str) -> None:
    """The layer is as the template names it, which CloudFormation alone can compute."""
    assert begin(plan(), TestAccount(region=region, layers=[arn]))[0] == 0
    assert begin(plan(), TestAccount(region=region, layers=[]))[0] == 2
    account, version = arn.split(":")[4], arn.split(":")[7]
    resources = yaml_parse(Path("template.yaml").read_text())
    named = resources["Resources"]["StreamFunction"]["Properties"]["Layers"][1]["Fn::If"][1]["Fn::If"][2]["Fn::Sub"]
    pattern = named[0].replace("${AWS::Partition}", arn.split(":")[1]).replace("${AWS::Region}", region)
    assert pattern.replace("${Account}", account).replace("${Version}", version) == arn


def test_a_copy_of_the_adapter_can_be_named_once() -> None:
    gov = "us-gov-west-1"
    assert begin(plan(PARAMETERS=f"AdapterLayer={COPY}"), TestAccount(region=gov, layers=[COPY]))[0] == 0
    assert begin(plan(), TestAccount(stack(AdapterLayer=COPY), region=gov, layers=[COPY]))[0] == 0


def test_a_stack_without_streams_needs_no_adapter() -> None:
    assert begin(plan(PARAMETERS="Environment=local"), TestAccount(layers=[]))[0] == 0


def test_as_much_as_the_account_has_can_be_reserved() -> None:
    most = 900 // len(function_names())
    assert begin(plan(PARAMETERS=f"ReservedConcurrency={most}"), TestAccount(limit=1000))[0] == 0
    held = stack(ReservedConcurrency="5")
    account = TestAccount(held, limit=100)  # what this stack holds is its own to keep
    assert begin(plan(PARAMETERS="ReservedConcurrency=5"), account)[0] == 0


def test_every_problem_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    begin(plan(STACK="1x", PARAMETERS="A=b SessionTurns=x", ISSUER="http://x"), TestAccount())
    assert capsys.readouterr().err.count("\n- ") == 4


def test_an_update_keeps_the_issuer_and_the_key_that_the_stack_has() -> None:
    account = TestAccount(stack(pool=False))
    code, commands = begin(Plan.read({"YES": "1"}), account)
    assert (code, commands.overrides, account.secrets.put) == (0, [], [])


def test_an_update_that_was_declined_changes_nothing() -> None:
    account = TestAccount(stack())
    commands = Commands(account)
    commands.declined = True
    assert deploy.deploy(plan(), commands, "", lambda: account) == 1
    assert account.secrets.put == []
    assert [each[1] for each in commands.ran] == ["build", "deploy"]


def test_an_update_can_go_back_to_the_stacks_own_user_pool(capsys: pytest.CaptureFixture[str]) -> None:
    account = TestAccount(stack(pool=False), after=stack())
    _, commands = begin(plan(ISSUER=OWN_POOL), account)
    assert set(commands.overrides) == {'TokenIssuer=""', 'TokenJwksUrl=""'}
    assert "their earlier sessions stay behind" in capsys.readouterr().out


def test_a_role_for_logs_that_the_account_has_is_not_replaced() -> None:
    assert 'GatewayLogRole="exists"' in begin(plan(), TestAccount(has_log_role=True))[1].overrides
    assert begin(plan(), TestAccount(stack(), has_log_role=True))[1].overrides == []  # it may be this stack's own
    theirs = begin(plan(PARAMETERS="GatewayLogRole=create"), TestAccount(has_log_role=True))[1].overrides
    assert theirs == ['GatewayLogRole="create"']


def test_a_value_reaches_sam_whole() -> None:
    from samcli.cli.types import CfnParameterOverridesType

    values = {
        "TokenJwksUrl": "https://issuer.example/keys?a=1&b=2",
        "TokenRolesClaim": 'two words; "$HOME"',
        "Empty": "",
    }
    assert CfnParameterOverridesType().convert(tuple(parameters.overrides(values)), None, None) == values


def test_parameters_are_read_as_a_shell_would() -> None:
    assert parameters.read("A=1 B='two words' C=x=y") == {"A": "1", "B": "two words", "C": "x=y"}
    for text in ("A", "=1", "A='open"):
        with pytest.raises(ValueError, match=r"form|quotation"):
            parameters.read(text)


def test_every_default_of_the_template_is_one_that_it_takes() -> None:
    defaults = {name: str(each["Default"]) for name, each in declared_parameters().items() if "Default" in each}
    assert list(parameters.faults(defaults)) == []


# --- what AWS says when it does not answer


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "GetCallerIdentity")


@pytest.mark.parametrize(
    ("error", "reason", "mend"),
    [
        (NoCredentialsError(), "no AWS credentials", "aws configure"),
        (TokenRetrievalError(provider="sso", error_msg="gone"), "has expired", "aws sso login"),
        (refusal("ExpiredToken"), "has expired", "aws sso login"),
        (refusal("InvalidClientTokenId"), "does not know", "aws configure"),
        (refusal("AccessDenied"), "may not do it", "a role that may deploy"),
        (EndpointConnectionError(endpoint_url="https://sts.nowhere-1"), "cannot be reached", "AWS_REGION"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_an_account_that_does_not_answer_says_why(error: Exception, reason: str, mend: str) -> None:
    def call() -> None:
        raise error

    with pytest.raises(NotReady, match=reason) as seen:
        aws._asked(call)
    assert mend in seen.value.mend


@pytest.mark.parametrize(
    "code", ["AccessDeniedException", "ResourceNotFoundException", "InvalidParameterValueException"]
)
def test_lambda_says_in_several_ways_that_a_layer_is_not_there(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    account = Account()
    layers = SimpleNamespace(get_layer_version_by_arn=lambda Arn: fail(refusal(code)))  # noqa: N803
    monkeypatch.setattr(account, "client", lambda _: layers)
    assert not account.has_layer(ADAPTER)
    assert account.partition == "aws"


def test_a_layer_that_nobody_could_look_for_is_no_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    account = Account()
    layers = SimpleNamespace(get_layer_version_by_arn=lambda Arn: fail(refusal("ExpiredToken")))  # noqa: N803
    monkeypatch.setattr(account, "client", lambda _: layers)
    with pytest.raises(NotReady, match="expired"):
        account.has_layer(ADAPTER)


def fail(error: Exception) -> None:
    raise error


def test_without_a_region_or_with_an_unknown_profile_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(NotReady, match="No Region"):
        Account()
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert Account().region == "eu-west-3"
    monkeypatch.setenv("AWS_PROFILE", "nope")
    with pytest.raises(NotReady, match="nope"):
        Account()


@pytest.mark.parametrize("given", ["", "https://issuer.example/keys?a=1&b=2"])
def test_an_issuers_keys_are_looked_at_first(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    asked = []

    def found(issuer: str, jwks_url: str) -> str:
        asked.append((issuer, jwks_url))
        return "https://issuer.example/keys?a=1&b=2"

    monkeypatch.setattr(deploy, "find_keys", found)
    _, commands = begin(
        plan(ISSUER="https://issuer.example/", JWKS_URL=given), TestAccount(after=stack(pool=False)), "a token"
    )
    assert asked == [("https://issuer.example/", given)]
    assert 'TokenJwksUrl="https://issuer.example/keys?a=1&b=2"' in commands.overrides


def test_an_issuer_with_which_nobody_could_sign_in_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unusable(*_: str) -> str:
        raise IssuerUnavailable("none of the issuer's keys can check a token")

    monkeypatch.setattr(deploy, "find_keys", unusable)
    code, commands = begin(plan(ISSUER="https://issuer.example/"), TestAccount())
    assert (code, commands.ran) == (2, [])
    assert "none of the issuer's keys can check a token" in capsys.readouterr().err

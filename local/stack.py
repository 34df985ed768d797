"""The real template on MiniStack: built for this machine, and deployed only when something changed."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.config import Config
from botocore.exceptions import ClientError

from local.ministack import last_lines
from local.parameters import overrides
from local.processes import Processes, clean_environment
from local.saved_code import files_of
from local.state import ROOT, StateFolder

NAME = "turnlog"
REGION = "us-east-1"
_BUILT = ("layers/dependencies", "layers/stream")
_INPUTS = ("template.yaml", "samconfig.toml", "requirements.lock", "local/ministack.lock", *_BUILT)
_CODE = ("functions", "layers/turnlog")
_INVOKED_WITHIN_S = 90  # an invocation waits for a cold start, which takes long on a busy machine
_WHOLE = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"}

Resources = Mapping[str, Mapping[str, str]]


class StackFailed(Exception):
    """The build or the deploy failed. The message has the end of SAM's output."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployed stack: its outputs, and the physical names of its resources by type and logical name."""

    outputs: Mapping[str, str]
    resources: Resources

    def named(self, kind: str) -> Mapping[str, str]:
        """The names of one type, such as `{"SessionsTable": "turnlog-SessionsTable-1X"}` for `AWS::DynamoDB::Table`."""
        return self.resources.get(kind, {})


class Aws:
    """Clients for the AWS of MiniStack, each created at its first use."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._session = boto3.Session("test", "test", region_name=REGION)
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """The client of a service, such as `dynamodb`."""
        if service not in self._clients:
            config = Config(
                connect_timeout=2,
                read_timeout=_INVOKED_WITHIN_S if service == "lambda" else 15,
                retries={"total_max_attempts": 2, "mode": "standard"},
                s3={"addressing_style": "path"},
            )
            self._clients[service] = self._session.client(  # type: ignore[call-overload] # the name is a variable
                service, endpoint_url=self.endpoint, config=config
            )
        return self._clients[service]


class Stack:
    """Builds into the state folder and deploys to `aws` with `parameters`."""

    def __init__(self, state: StateFolder, aws: Aws, processes: Processes, parameters: Mapping[str, str]) -> None:
        self._state = state
        self._aws = aws
        self._processes = processes
        self._parameters = parameters

    @cached_property
    def template(self) -> dict[str, Any]:
        """The built template, with its intrinsic functions in their long form."""
        found = yaml.load((self._state.build / "template.yaml").read_bytes(), yaml.CSafeLoader)
        return dict(found)

    def needs_build(self) -> bool:
        """Returns False when the inputs are those of the last build."""
        last = self._state.read(self._state.built_json).get("inputs")
        return last != _build_inputs() or not (self._state.build / "template.yaml").exists()

    def build(self) -> None:
        """Builds for this machine's platform and Python. Raises StackFailed."""
        inputs = _build_inputs()
        self._state.built_json.unlink(missing_ok=True)
        # SAM's cache does not know for what a layer was built.
        cache = self._state.cache / f"{_platform()}-{_python()}"
        self._sam(
            "build",
            ["--build-dir", str(self._state.build), "--cache-dir", str(cache), "--cached", "--parallel"],
            {"PLATFORM": _platform(), "PYVER": _python()},
        )
        self._state.write(self._state.built_json, {"inputs": inputs})

    def find(self) -> Deployed | None:
        """The stack of the last deploy; None when there is none, or another, or parts of it are missing."""
        last = self._state.read(self._state.deployed_json)
        if not last or last.get("inputs") != self._deploy_inputs():
            return None
        described = self._describe()
        if described is None or described[0] != last.get("stack_id") or self._missing(described[1].resources):
            return None
        return described[1]

    def make_way(self, forget: Callable[[], None]) -> None:
        """Prepares a deploy. Calls `forget` when the stack is broken, since SAM would find nothing to change in it."""
        self._state.deployed_json.unlink(missing_ok=True)
        described = self._describe()
        if described is None or self._missing(described[1].resources):
            forget()

    def deploy(self) -> Deployed:
        """Creates or updates the stack. Raises StackFailed."""
        arguments = ["--template-file", str(self._state.build / "template.yaml"), "--stack-name", NAME, "--resolve-s3"]
        arguments += ["--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND", "--no-confirm-changeset"]
        arguments += ["--no-fail-on-empty-changeset", "--no-progressbar"]
        arguments += ["--parameter-overrides", *overrides(self._parameters)]
        self._sam("deploy", arguments, {})
        deployed = self._describe()
        if deployed is None:
            raise StackFailed(f"The stack is not there after its deploy.\n{last_lines(self._state.sam_log)}")
        done = {"inputs": self._deploy_inputs(), "stack_id": deployed[0], "outputs": dict(deployed[1].outputs)}
        self._state.write(self._state.deployed_json, done)
        return deployed[1]

    def _deploy_inputs(self) -> str:
        endpoint = self._aws.endpoint  # queue URLs contain it
        built = str(self._state.read(self._state.built_json).get("inputs"))  # a file may be saved during a deploy
        return _digest([built, endpoint, json.dumps(self._parameters, sort_keys=True)])

    def _describe(self) -> tuple[str, Deployed] | None:
        """The stack's id and its facts; None when there is no stack, or one that was never complete."""
        try:
            found = self._aws.client("cloudformation").describe_stacks(StackName=NAME)["Stacks"][0]
        except ClientError:
            return None
        if found["StackStatus"] not in _WHOLE:
            return None
        resources: dict[str, dict[str, str]] = {}
        for each in self._aws.client("cloudformation").describe_stack_resources(StackName=NAME)["StackResources"]:
            resources.setdefault(each["ResourceType"], {})[each["LogicalResourceId"]] = each["PhysicalResourceId"]
        outputs = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}
        return found["StackId"], Deployed(outputs, resources)

    def _missing(self, resources: Resources) -> bool:
        """True when a resource of the stack does not exist, since MiniStack was killed before it saved it."""
        described_by: dict[str, Callable[[str], object]] = {
            "AWS::DynamoDB::Table": lambda name: self._aws.client("dynamodb").describe_table(TableName=name),
            "AWS::S3::Bucket": lambda name: self._aws.client("s3").head_bucket(Bucket=name),
            "AWS::SQS::Queue": lambda name: self._aws.client("sqs").get_queue_attributes(QueueUrl=name),
            "AWS::SecretsManager::Secret": lambda name: self._aws.client("secretsmanager").describe_secret(
                SecretId=name
            ),
            "AWS::Lambda::Function": lambda name: self._aws.client("lambda").get_function_configuration(
                FunctionName=name
            ),
            "AWS::ApiGateway::RestApi": lambda name: self._aws.client("apigateway").get_rest_api(restApiId=name),
        }
        try:
            for kind, describe in described_by.items():
                for name in resources.get(kind, {}).values():
                    describe(name)
        except ClientError:
            return True
        return False

    def _sam(self, command: str, arguments: list[str], more: Mapping[str, str]) -> None:
        """Runs a command of SAM. Raises StackFailed with the end of its output."""
        self._state.sam_log.write_text("")
        environment = {
            **clean_environment(),
            "SAM_CLI_TELEMETRY": "0",
            "TMPDIR": str(self._state.tmp),  # SAM leaves folders behind
            "__SAM_CLI_APP_DIR": str(self._state.home),
            "AWS_ENDPOINT_URL": self._aws.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            **more,
        }
        sam = Path(sys.executable).parent / "sam"
        if self._processes.run([sam, command, *arguments], environment, self._state.sam_log) != 0:
            raise StackFailed(f"sam {command} failed:\n{last_lines(self._state.sam_log)}")


def _build_inputs() -> str:
    """A digest of everything that a build depends on; other code is executed from where it is saved."""
    files = [(str(file.relative_to(ROOT)), file.read_bytes()) for file in input_files()]
    return _digest([_platform(), _python(), *(part for file in files for part in file)])


def code_files() -> Iterator[Path]:
    """The files that functions execute as they are."""
    for name in _CODE:
        yield from files_of(ROOT / name)


def input_files() -> Iterator[Path]:
    """The files whose change needs a build and a deploy."""
    for path in (ROOT / name for name in _INPUTS):
        yield from files_of(path) if path.is_dir() else [path]


def _digest(parts: list[str | bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _platform() -> str:
    """This machine's platform as uv names it. Raises StackFailed when there are no wheels for it."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    system = sys.platform
    if machine in ("x86_64", "aarch64") and system == "darwin":
        return f"{machine}-apple-darwin"
    if machine in ("x86_64", "aarch64") and system == "linux":
        return f"{machine}-manylinux2014" if platform.libc_ver()[0] == "glibc" else f"{machine}-unknown-linux-musl"
    raise StackFailed(f"Turnlog runs on Linux and macOS on x86_64 and arm64, not on {system} on {machine}.")


def find_uv() -> Path | None:
    """The folder of uv, which builds the dependency layer: on PATH or in .tools; None when it is in neither."""
    own = ROOT / ".tools" / "uv" / "bin"
    found = shutil.which("uv") or shutil.which("uv", path=str(own))
    return Path(found).parent if found else None

"""`make sam-local`: lets `sam local` run the functions in real containers against the stack of `make run`.

It builds for the containers' platform, writes the settings of the deployed functions for `--env-vars`, and keeps relays
on the address of Docker's bridge until Ctrl-C.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Any

import yaml

from local.bridge_relay import relays
from local.guard import HOST
from local.processes import Interruption, Stopping, clean_environment
from local.stack import NAME, REGION, Aws
from local.state import ROOT, StateFolder

PYTHON = "3.13"  # of the functions' runtime
_LEAST_TIMEOUT_S = 120  # a container that starts on a busy machine takes longer than one of Lambda's
_ENDPOINT = "AWS_ENDPOINT_URL"


class NoContainers(Exception):
    """Containers cannot be run here. The message says why."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """Docker's default network on this machine: the host's address in it, and who may be in it."""

    address: str
    network: IPv4Network


@dataclass(frozen=True, slots=True)
class SamLocal:
    """A build that `sam local` can run while its relays serve: the template, the settings and the environment."""

    template: Path
    env_vars: Path
    environment: Mapping[str, str]

    def command(self, *arguments: str) -> list[str]:
        """The command of `sam local` with these arguments."""
        sam = str(Path(sys.executable).parent / "sam")
        return [sam, "local", *arguments, "--template", str(self.template), "--env-vars", str(self.env_vars)]


def find_bridge() -> Bridge:
    """The default network of the Docker engine. Raises NoContainers when there is no engine or none on this machine."""
    if not shutil.which("docker"):
        raise NoContainers("there is no docker on PATH")
    asked = subprocess.run(["docker", "network", "inspect", "bridge"], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        raise NoContainers(f"no Docker engine answers: {asked.stderr.strip() or 'without a reason'}")
    (config, *_) = json.loads(asked.stdout)[0]["IPAM"]["Config"]
    network = ip_network(config["Subnet"])
    if not isinstance(network, IPv4Network):
        raise NoContainers(f"the bridge's network is {network}; it must be one of IPv4")
    return Bridge(config.get("Gateway") or str(network[1]), network)


@contextmanager
def sam_local(state: StateFolder, bridge: Bridge) -> Iterator[SamLocal]:
    """Builds, and relays while the block runs. Raises NoContainers when the stack does not run or the build fails."""
    run = state.read(state.run_json)
    if not run:
        raise NoContainers("no stack runs; start it with `make run` in another terminal")
    folder = state.path / "sam-local"
    folder.mkdir(mode=0o700, exist_ok=True)
    template = _build(folder)
    functions = _deployed_functions(Aws(run["aws_endpoint"]))
    _adapt(template, functions)
    servers = (run["aws_endpoint"], run["claude_url"], run["issuer"].rstrip("/"))
    urls = tuple(url for url in servers if url.startswith(f"http://{HOST}:"))  # a user pool's issuer is only a name
    try:
        with relays(bridge.address, bridge.network, urls) as by_url:
            endpoint = by_url[run["aws_endpoint"]]
            settings = {name: settings_of(each, by_url, endpoint) for name, each in functions.items()}
            state.write(folder / "env.json", settings)
            yield SamLocal(template, folder / "env.json", _environment())
    except OSError as error:
        raise NoContainers(f"this machine has not the bridge's address {bridge.address}: {error.strerror}") from error


def _environment() -> dict[str, str]:
    """The environment for `sam local`, with MiniStack's credentials, which reach the containers."""
    return {
        **clean_environment(),
        "SAM_CLI_TELEMETRY": "0",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def _architecture() -> tuple[str, str]:
    """This machine's architecture as Lambda names it, and the platform of its wheels."""
    is_arm = platform.machine().lower() in ("arm64", "aarch64")
    return ("arm64", "aarch64-manylinux2014") if is_arm else ("x86_64", "x86_64-manylinux2014")


def _build(folder: Path) -> Path:
    """Builds for the containers and returns the template."""
    architecture, wheels = _architecture()
    command = [str(Path(sys.executable).parent / "sam"), "build", "--build-dir", str(folder / "build")]
    command += ["--cache-dir", str(folder / f"cache-{architecture}"), "--cached", "--parallel"]
    environment = {**_environment(), "PLATFORM": wheels, "PYVER": PYTHON}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        raise NoContainers(f"sam build failed:\n{built.stderr[-2000:]}")
    return folder / "build" / "template.yaml"


def _adapt(file: Path, functions: Mapping[str, Mapping[str, Any]]) -> None:
    """Rewrites a built template for this architecture, with timeouts and a setting for the endpoint."""
    template = yaml.load(file.read_bytes(), yaml.CSafeLoader)
    common = template["Globals"]["Function"]
    common["Architectures"] = [_architecture()[0]]
    common["Environment"]["Variables"][_ENDPOINT] = ""  # SAM passes on only what the template names
    for name, resource in template["Resources"].items():
        resource.get("Properties", {}).pop("CompatibleArchitectures", None)
        if name in functions:
            # A number, since SAM cannot look it up in a mapping.
            resource["Properties"]["Timeout"] = max(functions[name]["Timeout"], _LEAST_TIMEOUT_S)
    file.write_text(yaml.safe_dump(template, sort_keys=False))


def _deployed_functions(aws: Aws) -> dict[str, Mapping[str, Any]]:
    """The configuration of each deployed function, by its logical name."""
    found = aws.client("cloudformation").describe_stack_resources(StackName=NAME)["StackResources"]
    return {
        each["LogicalResourceId"]: aws.client("lambda").get_function_configuration(
            FunctionName=each["PhysicalResourceId"]
        )
        for each in found
        if each["ResourceType"] == "AWS::Lambda::Function"
    }


def settings_of(function: Mapping[str, Any], relayed: Mapping[str, str], endpoint: str) -> dict[str, str]:
    """A deployed function's own settings, with the addresses that a container can reach."""
    own = function["Environment"]["Variables"]
    return {**{name: _relayed(name, value, relayed) for name, value in own.items()}, _ENDPOINT: endpoint}


def _relayed(name: str, value: str, relayed: Mapping[str, str]) -> str:
    """A setting with the relay's address. TOKEN_ISSUER stays: it is a name, which stands in every token."""
    if name == "TOKEN_ISSUER":
        return value
    for url, address in relayed.items():
        if value == url or value.startswith(f"{url}/"):
            return address + value.removeprefix(url)
    return value


def main() -> int:
    """Serves until Ctrl-C and returns 0. Returns 1 when containers cannot be run here."""
    interruption = Interruption()
    interruption.listen()
    try:
        bridge = find_bridge()
        print("building for the containers", flush=True)
        with sam_local(StateFolder(ROOT / ".turnlog"), bridge) as local:
            print(_message(local, bridge), flush=True)
            while True:
                interruption.sleep(1)
    except Stopping:
        return 0
    except NoContainers as error:
        print(f"`sam local` cannot run here: {error}.", file=sys.stderr)
        return 1


def _message(local: SamLocal, bridge: Bridge) -> str:
    options = f"--template {local.template.relative_to(ROOT)} --env-vars {local.env_vars.relative_to(ROOT)}"
    return f"""
The functions can run in containers now. In another terminal:
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION={REGION}
.venv/bin/sam local invoke QueryFunction --event events/query.json {options}
.venv/bin/sam local start-api --host {HOST} --port 3000 {options}

With --skip-pull-image SAM keeps the image that is there. StreamFunction does not run so: it needs AWS's adapter, which
a stack on one machine goes without. `make run` serves its routes.
Containers reach the stack by relays on {bridge.address}, which only {bridge.network} may use. Ctrl-C ends them.
"""


if __name__ == "__main__":
    sys.exit(main())

"""One run of the whole stack on this machine, from the first process to the last.

Everything listens on the loopback interface only; everything kept is in the state folder.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local import mends, parameters, welcome
from local.aws.user_pool import OWN_POOL, pool_of
from local.checks import CheckFailed, Checks, event_functions_of, routes_of
from local.claude_relay import ANTHROPIC, ClaudeUnreachable, relay, require_reachable
from local.claude_stand_in import StandIn
from local.guard import HOST
from local.issuer import AUDIENCE, Issuer
from local.keys import Keys
from local.ministack import MiniStack, MiniStackFailed, is_installed
from local.processes import Interruption, Processes, Stopping
from local.request_line import Answered, Noted, event_line, request_line
from local.stack import Aws, Deployed, Stack, StackFailed, code_files, find_uv, input_files
from local.state import ROOT, AlreadyRunning, Ports, PortTaken, StateFolder
from local.template import folders_as_they_are
from local.watch import Watch, fault_of

DEFAULT_PORT = 8787
USER = "me"
_CHECKER = "check"
_LIMITS_OFF = (
    *("SessionTurns", "SessionTurnsAMinute", "AnonymousTurns"),
    *("OwnerTurnsAMinute", "OwnerBudgetADay", "OwnerSessionsADay"),
)
_LEFTOVERS_WITHIN_S = 8.0  # one that lost its launcher is saving its state
_DEPLOY_KEY = "d"
_PORTS_WITHIN_S = 3.0  # a program that was just killed may hold its port for a moment


_Done = tuple[Deployed, dict[str, Any]]
"""A deployed stack and its built template."""


class Launcher:
    """One run of the stack. It asks the Claude at `base_url` with `key`; the stand-in when both are empty.

    With `has_pool` the tokens come from the stack's own user pool, as on AWS without an issuer, else from the
    development issuer. Pages of the origin `page`, if there is one, may call the API.
    """

    def __init__(
        self,
        state: StateFolder,
        interruption: Interruption,
        base_url: str,
        key: str,
        *,
        has_pool: bool = False,
        page: str = "",
    ) -> None:
        self._state = state
        self._interruption = interruption
        self._base_url = base_url or (ANTHROPIC if key else "")
        self._key = key
        self._has_pool = has_pool
        self._page = page
        self._began = time.monotonic()
        self._processes = Processes(state, interruption)
        self._shown_routes: list[str] = []  # none until ready: the checks are no news

    def run(self, port: int | None, base_port: int) -> None:
        """Starts everything, says ready, and runs until it is asked to stop, which raises Stopping."""
        was_killed = self._processes.end_leftovers(_LEFTOVERS_WITHIN_S)
        if was_killed:
            self._say("cleaned up after a launcher that was killed")
        self._state.run_json.unlink(missing_ok=True)
        self._state.empty_tmp()
        watch = Watch(code_files, input_files)  # before a build, which takes a while
        ports = self._choose_ports(port, base_port, _PORTS_WITHIN_S if was_killed else 0)
        with ExitStack() as running:
            running.callback(self._state.remove_tmp)
            claude_url = self._start_claude(ports, running)
            issuer = Issuer(self._state.issuer_key, ports.issuer)
            running.enter_context(issuer.server(ports.issuer))
            ministack = MiniStack(self._state, ports.api, self._processes, self._interruption, self._show, self._page)
            running.callback(ministack.stop)
            running.callback(self._state.run_json.unlink, missing_ok=True)
            ministack.start()
            aws = Aws(ministack.endpoint)
            deployed, template = self._deploy(ministack, aws, claude_url, issuer)
            routes = routes_of(template)
            pool = pool_of(deployed.outputs, lambda: aws.client("cognito-idp"))
            token_of = pool.token_at_once if pool else partial(issuer.token, now=datetime.now(UTC))
            token = token_of(USER, roles=())
            self._say(f"checking all {len(routes)} routes and the model, and warming the functions")
            # The checks are another user: they call every route, and one of the routes erases its caller.
            checker = token_of(_CHECKER, roles=["admin", "admin:content"])
            by_event = event_functions_of(template)
            silent = {*by_event, *(route.function for route in routes)}
            checks = Checks(ports.api, checker, self._interruption, partial(self._say_answers, silent))
            checks.gateway()
            names = deployed.named("AWS::Lambda::Function")
            # Before the routes: it warms the authorizer, which many requests at once would start many times.
            checks.model(aws, {function: names[function] for function in by_event})
            self._say("the model answers")
            checks.routes(routes)
            claude = self._base_url or "stand-in"
            facts = welcome.Facts(_api_url(ports), token, USER, claude, claude_url, deployed)
            self._say("ready")
            print(welcome.message(facts), flush=True)
            keys = running.enter_context(Keys())
            self._shown_routes = [f"/v1{route.path}" for route in routes]
            while True:
                pids = [os.getpid(), *self._processes.pids]
                self._state.write(self._state.run_json, welcome.run_json(facts, ministack.endpoint, pids))
                self._watch(watch, keys, ministack.check)
                if again := self._deploy_again(partial(self._deploy, ministack, aws, claude_url, issuer)):
                    facts = replace(facts, deployed=again[0])
                    self._shown_routes = [f"/v1{route.path}" for route in routes_of(again[1])]

    def _choose_ports(self, port: int | None, base_port: int, wait_s: float) -> Ports:
        before = self._state.ports()
        ports = self._state.choose_ports(port, base_port, wait_s, self._interruption.sleep)
        self._state.say_where(_api_url(ports))
        if port is None and ports.api != base_port:
            self._say(f"port {ports.api}, as the last time or since {base_port} is taken; PORT=… chooses another")
        if before and before.issuer != ports.issuer:
            self._say(f"the issuer moves from port {before.issuer} to {ports.issuer}: its earlier sessions stay behind")
        return ports

    def _watch(self, watch: Watch, keys: Keys, check: Callable[[], None]) -> None:
        """Tells of saved files; returns when a key asks for a deploy."""
        while _DEPLOY_KEY not in keys.pressed():
            check()
            saved = watch.look()
            for file in saved.code:
                name, fault = file.relative_to(ROOT), fault_of(file)
                print(f"saved: {name}" + (f", with an error in {fault}" if fault else "; the next request runs it"))
            if saved.deployed:
                names = ", ".join(str(file.relative_to(ROOT)) for file in saved.deployed)
                how = f"press {_DEPLOY_KEY}" if keys.are_read else "stop and start again"
                print(f"saved: {names}; it needs a deploy: {how}")
            sys.stdout.flush()
            self._interruption.sleep(0.5)

    def _deploy_again(self, deploy: Callable[[], _Done]) -> _Done | None:
        """Deploys while the stack runs. Returns None, and says why, when that fails; what ran before runs on."""
        self._began = time.monotonic()
        try:
            done = deploy()
        except (StackFailed, CheckFailed, ClientError, BotoCoreError) as error:
            self._say(f"not deployed: {error}")
            return None
        self._say("deployed")
        return done

    def _start_claude(self, ports: Ports, running: ExitStack) -> str:
        """Starts the stand-in or the relay in this process. Returns the address for the functions."""
        if not self._base_url:
            self._say("Claude: the stand-in, which is not Claude; with ANTHROPIC_API_KEY set Claude itself answers")
            return running.enter_context(StandIn(ports.claude)).url
        self._say(f"Claude: {self._base_url}, {'with' if self._key else 'without'} a key")
        self._interruption.during(partial(require_reachable, self._base_url))
        return running.enter_context(relay(ports.claude, self._base_url, self._key)).url

    def _deploy(self, ministack: MiniStack, aws: Aws, claude_url: str, issuer: Issuer) -> _Done:
        """Builds and deploys what has changed. Returns the stack and its built template."""
        values = {
            "Environment": "local",
            "ClaudeBaseUrl": claude_url,
            "TokenIssuer": "" if self._has_pool else issuer.url,
            "TokenAudience": AUDIENCE,
            "TokenJwksUrl": "" if self._has_pool else issuer.jwks_url,
            "RequestsPerSecond": "1000",
            "AnonymousCreationsASecond": "20",
            "ReservedConcurrency": "10",
            **dict.fromkeys(_LIMITS_OFF, "0"),
            "AnonymousCreationsAnHour": "1000",
            "AnonymousTurnsAMinute": "1000",
            **({"CorsOrigin": self._page} if self._page else {}),
        }
        stack = Stack(self._state, aws, self._processes, values)
        if stack.needs_build():
            self._say("building the functions and their layers with SAM, for this machine's platform and Python")
            stack.build()
        ministack.wait_until_ready()
        if not self._shown_routes:
            self._say(f"MiniStack answers on {ministack.endpoint}")
        found = self._interruption.during(stack.find)
        if not found:
            self._say("deploying template.yaml to it")
            self._interruption.during(partial(stack.make_way, ministack.forget))
        deployed = found or stack.deploy()
        mended = self._interruption.during(partial(mends.mend, aws, deployed, stack.template, values))
        mends.check(aws, deployed, stack.template)
        ministack.serve_api(deployed.outputs["ApiId"])
        ministack.read_code(*_code_folders(deployed))
        _stream(ministack, deployed, stack.template)
        if mended or not found:
            ministack.save()
        return deployed, stack.template

    def _show(self, fact: Answered | Noted | str) -> None:
        match fact:
            case str():
                print(fact, flush=True)
            case Answered() if self._shown_routes:
                print(request_line(fact, self._shown_routes, datetime.now()), flush=True)
            case Noted() if self._shown_routes:
                print(event_line(fact, datetime.now()), flush=True)

    def _say_answers(self, silent: set[str], function: str) -> None:
        """Prints a line for the first answer of each function; `silent` holds those that have not answered yet."""
        if function in silent:
            silent.remove(function)
            self._say(f"{function} answers; {len(silent)} to go")

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:5.1f} s  {text}", flush=True)


def _api_url(ports: Ports) -> str:
    return f"http://{HOST}:{ports.api}/v1"


def _stream(ministack: MiniStack, deployed: Deployed, template: dict[str, Any]) -> None:
    """Has the routes that stream served by their function."""
    names = deployed.named("AWS::Lambda::Function")
    routes = [route for route in routes_of(template) if route.streams]
    for function in {route.function for route in routes}:  # there is one, or none
        paths = [(route.method, f"/v1{route.path}") for route in routes]
        ministack.stream(names[function], names["AuthorizerFunction"], paths)


def _code_folders(deployed: Deployed) -> tuple[dict[str, str], dict[str, str]]:
    """The folders of functions and of layers, by physical name."""
    folders = folders_as_they_are()
    functions = {
        physical: str(ROOT / folders[logical])
        for logical, physical in deployed.named("AWS::Lambda::Function").items()
        if logical in folders
    }
    layers = {
        physical: str(ROOT / folder)
        for logical, physical in deployed.named("AWS::Lambda::LayerVersion").items()
        for name, folder in folders.items()
        if logical.startswith(name)  # SAM adds a digest of the folder
    }
    return functions, layers


def launch() -> int:
    """Runs a launcher by the command line until it is asked to stop. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.run", description="Runs Turnlog on this machine.")
    parser.add_argument("--port", type=_port, help="of the API, 1024 to 65533; an error if it is taken")
    parser.add_argument("--port-base", type=int, default=DEFAULT_PORT, help="the first port to try without --port")
    parser.add_argument("--state", type=Path, default=ROOT / ".turnlog", help="the folder of all that is kept")
    asked = parser.parse_args()
    interruption = Interruption()
    interruption.listen()
    state = StateFolder(asked.state)
    key, base_url = os.environ.pop("ANTHROPIC_API_KEY", ""), os.environ.pop("CLAUDE_BASE_URL", "")
    issuer = os.environ.pop("ISSUER", "")
    if issuer not in ("", OWN_POOL):
        return _failed(
            f"ISSUER is {issuer!r}; on this machine there is `ISSUER={OWN_POOL}`, or the development issuer."
        )
    page = os.environ.pop("ORIGIN", "").rstrip("/")
    if fault := next(parameters.faults({"CorsOrigin": page} if page else {}), ""):
        return _failed(f"ORIGIN is the origin of a page, such as http://localhost:5173. {fault}.")
    try:
        _prepare_environment()
        with state.hold():
            launcher = Launcher(state, interruption, base_url, key, has_pool=issuer == OWN_POOL, page=page)
            launcher.run(asked.port, asked.port_base)
    except Stopping:
        print("stopped; sessions are kept until `make clean`", flush=True)
        return 0
    except AlreadyRunning as where:
        return _failed(f"Turnlog runs from {state.path} already: {where}")
    except CheckFailed as error:
        return _failed(f"Turnlog is not ready: {error}.")
    except PortTaken as error:
        return _failed(f"{error}. `make run PORT=<another>`, or without PORT to let it choose.")
    except ClaudeUnreachable as error:
        return _failed(
            f"Claude cannot be asked: {error}. Without ANTHROPIC_API_KEY and CLAUDE_BASE_URL a stand-in answers."
        )
    except (NotInstalled, MiniStackFailed, StackFailed, ClientError, BotoCoreError, OSError) as error:
        return _failed(f"Turnlog is not running: {error}")
    return 0


def _port(text: str) -> int:
    """Reads a port from 1024 to 65533. Raises ArgumentTypeError for anything else."""
    if not (text.isascii() and text.isdigit() and 1024 <= int(text) <= 65533):
        raise argparse.ArgumentTypeError(f"{text} is no port from 1024 to 65533")
    return int(text)


class NotInstalled(Exception):
    """A tool that the Makefile installs is missing."""


def _prepare_environment() -> None:
    """Sets PATH to uv and this environment's tools, and keeps proxies off this machine. Raises NotInstalled."""
    uv = find_uv()
    if uv is None or not is_installed():
        raise NotInstalled("its tools are not installed; `make run` installs them.")
    paths = [str(Path(sys.executable).parent), str(uv), os.environ.get("PATH", os.defpath)]
    os.environ["PATH"] = os.pathsep.join(paths)
    os.environ.setdefault("UV_SYSTEM_CERTS", "1")  # as pip and git: the certificates that this machine trusts
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), HOST, "localhost"]))


def _failed(message: str) -> int:
    print(message, file=sys.stderr, flush=True)
    return 1

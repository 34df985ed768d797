"""The state folder: all files of a local stack, readable by its user alone."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from local.guard import HOST

ROOT = Path(__file__).resolve().parent.parent


class AlreadyRunning(Exception):
    """Another launcher holds the folder. The message has its address and process."""


class PortTaken(Exception):
    """The requested port belongs to another program."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of the three servers."""

    api: int
    claude: int
    issuer: int


class StateFolder:
    """The files of one local stack, by name. Nothing is created before `hold`."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.run_json = self.path / "run.json"
        self.issuer_key = self.path / "issuer.pem"
        self.tmp = self.path / "tmp"
        self.home = self.path / "home"
        self.ministack = self.path / "ministack"
        self.ministack_log = self.path / "ministack.log"
        self.sam_log = self.path / "sam.log"
        self.build = self.path / "build"
        self.cache = self.path / "cache"
        self.layers = self.path / "layers"
        self.built_json = self.path / "built.json"
        self.deployed_json = self.path / "deployed.json"
        self.processes_json = self.path / "processes.json"
        self._ports_json = self.path / "ports.json"
        self._lock = self.path / "lock"

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Creates the folder and keeps others out until the block or this process ends. Raises AlreadyRunning."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        with self._lock.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise AlreadyRunning(_holder(self._lock)) from error
            self._lock.write_text("")
            yield

    def is_held(self) -> bool:
        """True while a launcher holds the folder."""
        if not self._lock.exists():
            return False
        with self._lock.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def say_where(self, api_url: str) -> None:
        """Writes the address for the next launcher that tries to hold the folder."""
        self._lock.write_text(json.dumps({"api_url": api_url, "pid": os.getpid()}))

    def empty_tmp(self) -> None:
        """Empties the folder for temporary files, in which every worker leaves its copy of the code."""
        shutil.rmtree(self.tmp, ignore_errors=True)
        self.tmp.mkdir(mode=0o700)

    def remove_tmp(self) -> None:
        shutil.rmtree(self.tmp, ignore_errors=True)

    def ports(self) -> Ports | None:
        """The ports of the last start; None before the first."""
        found = self.read(self._ports_json)
        try:
            return Ports(**found) if found else None
        except TypeError:
            return None

    def choose_ports(
        self, api: int | None, base: int, wait_s: float = 0, sleep: Callable[[float], None] = time.sleep
    ) -> Ports:
        """Returns the last start's ports where they are free, since others mean another deploy; else from `base` up.

        `api` is a requested port. Raises PortTaken when it is not free. Waits up to `wait_s` for the first choice.
        """
        remembered = self.ports()
        if remembered:  # a token's issuer, and so the owner of every session, is named by its port
            wanted = [api or remembered.api, remembered.claude, remembered.issuer]
        else:
            wanted = [first := api or base, first + 1, first + 2]
        until = time.monotonic() + wait_s
        while not all(is_free(port) for port in wanted) and time.monotonic() < until:
            sleep(0.05)
        if api is not None and not is_free(api):
            raise PortTaken(f"Port {api} is taken by another program")
        chosen: list[int] = []
        for port in wanted:
            chosen.append(_free_port(port, chosen))
        ports = Ports(*chosen)
        self.write(self._ports_json, asdict(ports))
        return ports

    def read(self, file: Path) -> dict[str, Any]:
        """The value of the last `write`; empty when there is none that can be read."""
        try:
            found = json.loads(file.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, file: Path, value: Mapping[str, Any]) -> None:
        """Writes a value whole or not at all, readable by this user alone."""
        new = file.with_name(file.name + ".new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            json.dump(value, out, indent=2)
            out.write("\n")
        new.replace(file)


def is_free(port: int) -> bool:
    """True when nothing listens on the port and this user may."""
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            return False  # on macOS one can bind beside a listener on all interfaces
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def _free_port(wanted: int, taken: list[int]) -> int:
    for port in range(wanted, min(wanted + 100, 65536)):
        if port not in taken and is_free(port):
            return port
    raise PortTaken(f"No port from {wanted} up is free")


def _holder(lock: Path) -> str:
    try:
        where = json.loads(lock.read_text())
        return f"{where['api_url']} (process {where['pid']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "it is just starting"

"""The ASGI app under a real server, with the fakes of the handlers behind it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from starlette.types import ASGIApp
from uvicorn import Config, Server

from tests.handlers.conftest import Backstage, backstage, call, logged
from tests.stream.reading import Reading, wait_for_work
from turnlog import runtime
from turnlog.domain.owners import VerifiedToken
from turnlog.entrypoints.stream import NATIVE, make_app

__all__ = ["Backstage", "backstage", "call", "logged"]


@dataclass(frozen=True)
class Served:
    """A server that runs, on a port of its own."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def running(app: ASGIApp) -> Iterator[Served]:
    """A server in a thread; it ends once its work has."""
    config = Config(
        app, port=0, loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None, access_log=False
    )
    server = Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    began = threading.Event()
    startup = server.startup

    async def tell(*given: object, **named: object) -> None:
        await startup(*given, **named)  # type: ignore[arg-type] # whatever it is given
        began.set()

    server.startup = tell  # type: ignore[method-assign]
    thread.start()
    assert began.wait(10)
    yield Served(server.servers[0].sockets[0].getsockname()[1])
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


class Believing:
    """Believes any token, as that of its own text."""

    def verify(self, token: str) -> VerifiedToken:
        return VerifiedToken(f"https://issuer.example/|{token}", 4_102_444_800, frozenset())


@pytest.fixture(autouse=True)
def _tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "token_verifier", Believing)


@pytest.fixture(autouse=True)
def _hung_up() -> Iterator[None]:
    yield
    while Reading.made:
        Reading.made.pop().hang_up()


@pytest.fixture(scope="session")
def _server() -> Iterator[Served]:
    yield from running(make_app(NATIVE))


@pytest.fixture
def served(backstage: Backstage, _server: Served) -> Iterator[Served]:
    """A server that all tests share: what is behind it is this test's own."""
    yield _server
    wait_for_work()

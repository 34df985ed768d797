"""The relays for containers, on the loopback interface in the place of Docker's bridge."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import httpx2
import pytest

from local import sam_local
from local.bridge_relay import relays
from local.guard import HOST
from local.loopback import GuardedHandler, LoopbackServer

NETWORK = IPv4Network("127.0.0.0/8")


class _Echo(GuardedHandler):
    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.send_json(201, {"method": self.command, "path": self.path, "body": body, "key": self.headers.get("x-key")})


@pytest.fixture
def behind() -> Iterator[LoopbackServer]:
    with LoopbackServer(0, _Echo, "echo") as server:
        yield server


@pytest.fixture
def address(behind: LoopbackServer) -> Iterator[str]:
    with relays(HOST, NETWORK, (behind.url,)) as by_url:
        yield by_url[behind.url]


def test_a_request_and_its_answer_pass_whole(address: str) -> None:
    answer = httpx2.put(f"{address}/a/b?c=d%20e", content="é" * 100_000, headers={"x-key": "k"})
    assert answer.status_code == 201
    assert answer.json() == {"method": "PUT", "path": "/a/b?c=d%20e", "body": "é" * 100_000, "key": "k"}


def test_an_answer_without_a_body_passes(address: str) -> None:
    answer = httpx2.head(f"{address}/a")
    assert (answer.status_code, answer.text) == (201, "")


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}],
)
def test_a_web_page_is_refused(address: str, headers: dict[str, str]) -> None:
    assert httpx2.get(f"{address}/a", headers=headers).status_code == 403


def test_an_address_outside_of_the_bridges_network_is_not_answered(behind: LoopbackServer) -> None:
    with relays(HOST, IPv4Network("172.17.0.0/16"), (behind.url,)) as by_url, pytest.raises(httpx2.TransportError):
        httpx2.get(by_url[behind.url])


def test_it_listens_on_the_given_address_alone(address: str) -> None:
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(address.replace(HOST, "127.0.0.2"))


def test_it_is_closed_at_the_end(behind: LoopbackServer) -> None:
    with relays(HOST, NETWORK, (behind.url,)) as by_url:
        pass
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(by_url[behind.url])


def test_settings_get_addresses_that_a_container_can_reach() -> None:
    own = {
        "CLAUDE_BASE_URL": "http://127.0.0.1:2",
        "TOKEN_ISSUER": "http://127.0.0.1:3/",
        "TOKEN_JWKS_URL": "http://127.0.0.1:3/.well-known/jwks.json",
        "SESSIONS_TABLE": "turnlog-SessionsTable-1X",
    }
    relayed = {f"http://127.0.0.1:{port}": f"http://172.17.0.1:{port}0" for port in (1, 2, 3)}
    settings = sam_local.settings_of({"Environment": {"Variables": own}}, relayed, "http://172.17.0.1:10")
    assert settings == {
        "CLAUDE_BASE_URL": "http://172.17.0.1:20",
        "TOKEN_ISSUER": "http://127.0.0.1:3/",  # a name, which stands in every token
        "TOKEN_JWKS_URL": "http://172.17.0.1:30/.well-known/jwks.json",
        "SESSIONS_TABLE": "turnlog-SessionsTable-1X",
        "AWS_ENDPOINT_URL": "http://172.17.0.1:10",
    }


@pytest.mark.parametrize("program", [None, "#!/bin/sh\necho 'no daemon' >&2\nexit 1\n"])
def test_without_an_engine_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None) -> None:
    if program:
        (tmp_path / "docker").write_text(program)
        (tmp_path / "docker").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path) + (":/usr/bin:/bin" if program else ""))
    with pytest.raises(sam_local.NoContainers, match="no daemon" if program else "no docker on PATH"):
        sam_local.find_bridge()


@pytest.mark.parametrize("config", [{"Subnet": "172.17.0.0/16"}, {"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}])
def test_the_bridge_is_the_first_address_unless_docker_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]
) -> None:
    answer = str([{"IPAM": {"Config": [config]}}]).replace("'", '"')
    (tmp_path / "docker").write_text(f"#!/bin/sh\necho '{answer}'\n")
    (tmp_path / "docker").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert sam_local.find_bridge() == sam_local.Bridge("172.17.0.1", IPv4Network("172.17.0.0/16"))

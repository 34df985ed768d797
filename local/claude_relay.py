"""A pass-through to Claude that adds the key, so that the key stays in this process alone.

MiniStack writes secrets to disk in clear and shows them to every function; so the functions are given a placeholder and
this address, and what leaves here carries the real key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import httpx2

from local.loopback import GuardedHandler, LoopbackServer

ANTHROPIC = "https://api.anthropic.com"
_MOST_BYTES = 32 * 1024 * 1024  # the API's limit of a request
_TIMEOUT = httpx2.Timeout(600.0, connect=5.0)  # a long answer may think for minutes before its first byte
# Nothing that could be read as another host or another path once it stands behind the base URL.
_OF_THE_API = re.compile(r"/v1(?:/[A-Za-z0-9_-]+)+(?:\?[A-Za-z0-9_.~=&%-]*)?")
_HOP_BY_HOP = {
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


def outgoing_headers(headers: Iterable[tuple[str, str]], key: str) -> list[tuple[str, str]]:
    """The headers for the provider: the caller's, with the real key in the place of its placeholder.

    Without a key the caller's own is kept.
    """
    dropped = _HOP_BY_HOP | ({"authorization", "x-api-key"} if key else set())
    kept = [(name, value) for name, value in headers if name.lower() not in dropped]
    return [*kept, ("x-api-key", key)] if key else kept


def require_reachable(base_url: str) -> None:
    """Raises ClaudeUnreachable when `base_url` is no address or nothing accepts a connection there."""
    try:
        httpx2.get(base_url, timeout=httpx2.Timeout(5.0))
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
        raise ClaudeUnreachable(f"{base_url} is no address of a Messages API, such as {ANTHROPIC}") from error
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        raise ClaudeUnreachable(f"no connection to {base_url} ({error})") from error
    except httpx2.HTTPError:
        pass  # a server is there; how it answers is another matter


class ClaudeUnreachable(Exception):
    """No server takes connections at the address. The message names the address and the reason."""


@contextmanager
def relay(port: int, base_url: str, key: str) -> Iterator[LoopbackServer]:
    """Forwards /v1/* of `port` to `base_url`, bodies streamed as they come. Raises OSError when the port is taken."""
    with httpx2.Client(timeout=_TIMEOUT, follow_redirects=False) as client:
        settings = {"base": base_url.rstrip("/"), "key": key, "client": client}
        with LoopbackServer(port, type("Relay", (_Relay,), settings), "claude relay") as server:
            yield server


class _Relay(GuardedHandler):
    base: str
    key: str
    client: httpx2.Client
    _begun = False  # to answer: from then on a failure can only be shown by breaking off

    def answer(self) -> None:
        body = self._body()
        if body is None:
            self._refuse(400, "invalid_request_error", "The request needs a content-length of at most 32 MB.")
        elif not _OF_THE_API.fullmatch(self.path):
            self._refuse(404, "not_found_error", "There is nothing here.")
        else:
            self._forward(body)

    def _body(self) -> bytes | None:
        length = self.headers.get("content-length", "0")
        if "transfer-encoding" in self.headers or not re.fullmatch("[0-9]{1,9}", length) or int(length) > _MOST_BYTES:
            return None
        return self.rfile.read(int(length))

    def _forward(self, body: bytes) -> None:
        headers = outgoing_headers(self.headers.items(), self.key)
        try:
            with self.client.stream(self.command, self.base + self.path, headers=headers, content=body) as reply:
                self._pass_on(reply)
        except httpx2.HTTPError as error:
            if self._begun:
                self.close_connection = True
            else:
                self._refuse(502, "api_error", f"The relay could not reach Claude: {type(error).__name__}.")

    def _pass_on(self, reply: httpx2.Response) -> None:
        self._begun = True
        self.send_response(reply.status_code)
        for name, value in reply.headers.multi_items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in reply.iter_raw():
            if piece:  # an empty chunk would be the end
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")
        self._begun = False

    def _refuse(self, status: int, kind: str, message: str) -> None:
        self.close_connection = True
        self.send_json(status, {"type": "error", "error": {"type": kind, "message": message}})

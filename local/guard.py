"""Keeps web pages away from the servers on this machine, and lets its own programs in.

A page of any site can make a browser send requests to the loopback interface, and a site can make its own name resolve
to it. The browser shows both: the first by Origin or Sec-Fetch-Site, the second by Host.
"""

from __future__ import annotations

from collections.abc import Iterable

HOST = "127.0.0.1"  # the interface that every server here listens on


_SOURCES = {b"x-forwarded-for", b"forwarded", b"x-real-ip"}
_CONTEXTS = {b"x-amzn-request-context", b"x-amzn-lambda-context"}


def without_contexts(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Returns the headers without those by which a request would choose its caller.

    Before the function that streams, AWS's adapter sets them from what the gateway knows, and drops a client's own.
    """
    return [(name, value) for name, value in headers if name.lower() not in _CONTEXTS]


def without_sources(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Returns the headers without those by which a request would choose the address that it comes from.

    API Gateway looks at the connection alone; MiniStack believes X-Forwarded-For.
    """
    return [(name, value) for name, value in headers if name.lower() not in _SOURCES]


def refusal(headers: Iterable[tuple[str, str]], port: int, page: str = "") -> str:
    """The reason why the server on `port` must not answer a request with these headers; empty when it may.

    `page` is one other origin whose pages it answers too.
    """
    names = {f"{HOST}:{port}", f"localhost:{port}"}
    given: dict[str, list[str]] = {"host": [], "origin": [], "sec-fetch-site": []}
    for name, value in headers:
        if name.lower() in given:
            given[name.lower()].append(value.strip().lower())
    if len(given["host"]) != 1 or given["host"][0] not in names:
        return "This server answers to its own loopback address only."
    if page and given["origin"] == [page]:
        return ""
    own_origins = {f"http://{name}" for name in names}
    # A page's picture or link brings no Origin, but browsers then say where it came from.
    if not own_origins.issuperset(given["origin"]) or not {"none", "same-origin"}.issuperset(given["sec-fetch-site"]):
        return "This server answers no pages of other origins."
    return ""

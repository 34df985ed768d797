"""The check that the stage's limits are on.

Its settings prove it, where they may be read. A 429 proves it too, but API Gateway keeps a limit by best effort, so
that none came proves nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import ClientError

from tests.smoke.account import Account, answers
from tests.smoke.api import Api, Reply
from tests.smoke.outcome import LeftOut, Unexpected

MOST_REQUESTS = 100
AT_ONCE = 4  # below every reserved concurrency, so that it is the gateway that refuses and no function
_STAGE = "v1"
_UNLIMITED = 10_000  # requests a second: what an account has anyway (API Gateway quota)


def throttle(api: Api, account: Account) -> str:
    """The stage has limits, and a burst meets one of them.

    The burst asks for anonymous sessions without what one needs: it is refused before anything is paid or stored, and
    holds up nobody but who begins an anonymous session in that second. It ends with the first 429.
    """
    try:
        limits = _limits(account)
    except LeftOut as error:
        limits, unread = "", error
    asked, refused = _burst(api)
    if refused:
        refused.require_problem(429, "too_many_requests")
        wait = refused.headers.get("retry-after")
        if not wait:
            raise Unexpected(f"{refused} without Retry-After: are the GatewayResponses deployed?")
        return f"{refused} after {asked} requests at once, Retry-After: {wait}{f'; set are {limits}' if limits else ''}"
    if limits:
        return f"set are {limits}; a burst of {asked} requests met none"
    raise LeftOut(f"a burst of {asked} requests met no limit, and the settings cannot be read: {unread}")


def _limits(account: Account) -> str:
    """The limits of the stage as they are shown. Raises LeftOut when they cannot be read, Unexpected without any."""
    api_id = account.outputs.get("ApiId", "")
    client = account.client("apigateway")
    try:
        with answers("apigateway:GET of the stage"):
            settings: Mapping[str, Any] = client.get_stage(restApiId=api_id, stageName=_STAGE)["methodSettings"]
    except ClientError as error:
        raise Unexpected(f"the stage {_STAGE} cannot be read: {error}") from error
    every = settings.get("*/*", {})
    rate, burst = every.get("throttlingRateLimit", _UNLIMITED), every.get("throttlingBurstLimit", _UNLIMITED)
    if not (0 < rate < _UNLIMITED and 0 < burst < _UNLIMITED):
        raise Unexpected(f"the stage lets through {rate:g} requests a second: is RequestsPerSecond deployed?")
    others = len(settings) - 1
    return f"{rate:g} a second, {burst:g} at once" + (f" and {others} of single methods" if others else "")


def _burst(api: Api) -> tuple[int, Reply | None]:
    """Sends requests until one is refused by the gateway. Returns their number and that refusal, if any."""
    met = threading.Event()
    replies: list[Reply] = []

    def ask(_: int) -> None:
        if not met.is_set():
            reply = api.ask_without_token("POST", "/anonymous/sessions", {})
            replies.append(reply)
            if reply.status == 429:
                met.set()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(ask, range(MOST_REQUESTS)))
    for reply in replies:
        if reply.status != 429:
            reply.require(400)
    return len(replies), next((reply for reply in replies if reply.status == 429), None)

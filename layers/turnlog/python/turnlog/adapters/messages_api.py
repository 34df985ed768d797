"""MessagesApi over HTTP: what a client sent goes on as it is, and what the provider answers comes back as it is.

Only the credential is the service's own: it is added here, and cannot come back, since no header of the request
does.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import httpx2

from turnlog.adapters.claude.call_notes import NoteCall, note_nothing
from turnlog.adapters.claude.client import ApiKey
from turnlog.adapters.claude.failures import NOT_SENT, RETRY_AFTER_S
from turnlog.adapters.claude.headers import REQUEST_ID, STAND_IN, limits_left, request_id_of
from turnlog.adapters.claude.time_bounds import Cutter, cut_within
from turnlog.errors import ModelAccessDenied, ModelError, ModelFailed, ModelRejected, ModelTimeout, ModelUnavailable
from turnlog.ports.messages_api import PassedRequest

_CONNECT_S = 5.0
_LONGEST_SILENCE_S = 300.0  # of a body that has begun: as long as clients wait, since not every provider sends pings
_LEAST_USEFUL_S = 1.0
_PASSED_BACK = ("content-type", REQUEST_ID, "retry-after", "retry-after-ms", "x-should-retry")
"""The answer's headers that go back. The others tell of the account that all callers share, or of the connection."""
_CODES = {429: "model_unavailable", 529: "model_unavailable", 402: "model_credit_used_up"}


class HttpMessagesApi:
    """Passes requests on to the API at `base_url`.

    `api_key` is called for each request, and once more when the provider refuses a cached one. With `allows_stand_in`
    false an answer that says it is a stand-in's is refused, as production must. `clock` returns seconds, and
    `note_call` is told of each HTTP call.
    """

    def __init__(
        self,
        base_url: str,
        api_key: ApiKey,
        *,
        allows_stand_in: bool = False,
        note_call: NoteCall = note_nothing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = base_url.rstrip("/") + "/v1/"
        self._api_key = api_key
        self._allows_stand_in = allows_stand_in
        self._note_call = note_call
        self._clock = clock
        self._http = httpx2.Client(follow_redirects=False)  # a conversation goes nowhere else
        weakref.finalize(self, self._http.close)

    @contextmanager
    def send(self, request: PassedRequest, seconds: float) -> Iterator[HttpAnswer]:
        """Does MessagesApi.send."""
        began = self._clock()
        until = began + seconds
        response: httpx2.Response | None = None
        code = ""
        try:
            response = self._open(request, until)
            self._require_real(response)
            code = _CODES.get(response.status_code, "")
            with cut_within(response, until - self._clock()) as cutter:
                yield HttpAnswer(response, until, self._clock, cutter)
        except ModelError as error:
            code = error.code
            error.provider_request_id = request_id_of(_headers_of(response))
            raise
        finally:
            if response is not None:
                response.close()
            self._note_call(
                model=request.model,
                ms=round((self._clock() - began) * 1000),
                provider_request_id=request_id_of(_headers_of(response)),
                status=None if response is None else response.status_code,
                code=code,
                **limits_left(_headers_of(response)),
            )

    def _open(self, request: PassedRequest, until: float) -> httpx2.Response:
        """Returns the head of the answer, once the key is one that the provider takes."""
        response = self._ask(request, self._api_key(), until)
        if response.status_code != 401:
            return response
        response.close()
        response = self._ask(request, self._api_key(renewed=True), until)
        if response.status_code == 401:  # the caller's credential was right, so this is no answer for the caller
            response.close()
            raise ModelAccessDenied
        return response

    def _ask(self, request: PassedRequest, key: str, until: float) -> httpx2.Response:
        seconds = until - self._clock()
        if seconds < _LEAST_USEFUL_S:
            raise ModelUnavailable(RETRY_AFTER_S)
        if not key:  # nobody has put one in, and no header can be made of it
            raise ModelAccessDenied
        own = {"authorization": f"Bearer {key}", "accept-encoding": "identity"}
        named = {**request.headers, **own}
        headers = [(name.encode(), value.encode("latin-1", "replace")) for name, value in named.items()]
        sent = self._http.build_request(
            "POST",
            f"{self._url}{request.path}?{request.query}" if request.query else f"{self._url}{request.path}",
            content=request.body,
            headers=headers,
            timeout=httpx2.Timeout(seconds, connect=min(_CONNECT_S, seconds), pool=min(_CONNECT_S, seconds)),
        )
        try:
            return self._http.send(sent, stream=True)
        except NOT_SENT as error:
            raise ModelUnavailable(RETRY_AFTER_S) from error
        except httpx2.TimeoutException as error:
            raise ModelTimeout from error
        except httpx2.HTTPError as error:
            raise ModelFailed from error

    def _require_real(self, response: httpx2.Response) -> None:
        """Raises ModelRejected for a stand-in where none may be, and for what sends the request elsewhere."""
        if (STAND_IN in response.headers and not self._allows_stand_in) or 300 <= response.status_code < 400:
            raise ModelRejected


class HttpAnswer:
    """One answer, whose body is read once."""

    def __init__(self, response: httpx2.Response, until: float, clock: Callable[[], float], cutter: Cutter) -> None:
        self._response = response
        self._until = until
        self._clock = clock
        self._cutter = cutter

    @property
    def status(self) -> int:
        return self._response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        found = self._response.headers
        return {name: found[name] for name in _PASSED_BACK if name in found}

    def chunks(self) -> Iterator[bytes]:
        """Does PassedAnswer.chunks."""
        self._response.request.extensions["timeout"]["read"] = _LONGEST_SILENCE_S
        try:
            for chunk in self._response.iter_bytes():
                if self._clock() > self._until:
                    raise ModelTimeout
                yield chunk
        except httpx2.TimeoutException as error:
            raise ModelTimeout from error
        except httpx2.HTTPError as error:
            raise ModelTimeout if self._cutter.has_cut else ModelFailed from error
        if self._cutter.has_cut:  # where the end of the connection is that of the body, nothing else tells
            raise ModelTimeout


def _headers_of(response: httpx2.Response | None) -> Mapping[str, str]:
    """The headers of the answer; none if there is no answer."""
    return {} if response is None else response.headers

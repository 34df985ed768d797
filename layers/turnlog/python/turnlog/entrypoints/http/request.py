"""One request as API Gateway hands it over, read strictly: whatever is not exactly right is refused before any I/O."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, ClassVar, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from turnlog.domain.blocks.media import MOST_MESSAGE_BYTES, media_bytes
from turnlog.domain.messages import to_json
from turnlog.domain.owners import MAX_USER, delegated_owner, is_user
from turnlog.domain.sessions import is_session_id
from turnlog.entrypoints.http.strict_json import position_in, strict_json, where_json_breaks
from turnlog.errors import (
    BodyTooLarge,
    Forbidden,
    InvalidRequest,
    MediaTypeUnsupported,
    SessionNotFound,
    Unauthorized,
    ValueRefused,
)
from turnlog.usecases.caller import Caller

MAX_BODY = 256 * 1024
"""Bytes of a request's body without images and PDFs: enough for a book's chapter."""

MAX_MEDIA_BODY = MOST_MESSAGE_BYTES
"""Bytes of a body with images and PDFs."""

MOST_WAIT_S = 20
"""For a busy session: of the 29 s or more that the gateway waits, so that some are left for the turn itself."""

_WAIT = re.compile(r"\s*wait\s*=\s*\"?([0-9]+)\"?\s*(?:;.*)?", re.IGNORECASE)
_PARAMETER = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=([^\s\"]+|\"[^\"]*\")\s*")
_LONG_TEXT = re.compile(rb'"[A-Za-z0-9+/=\\]{1024,}"')
_NO_BASE64 = re.compile(rb"\\(?!/|u00(?:2[BbFf]|3[Dd]))")  # an escape other than those that some encoders write in it
MAX_KEY = 255
_USER = "turnlog-user"
SESSION_HEADER = "turnlog-session"
NEW_SESSION = "new"
"""The value of Turnlog-Session with which a session begins."""
DEFAULT_LIMIT, MOST_LIMIT = 20, 100

_TOLD = {
    "allowed": "allowed",
    "ge": "minimum",
    "le": "maximum",
    "min_length": "min_length",
    "max_length": "max_length",
    "pattern": "pattern",
}
"""What callers are told of a rule that they broke, by pydantic's name for it: the rest of its context may be theirs."""


class Body(BaseModel):
    """A request's body: strict types, no unknown fields, and no input in error texts."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    most_bytes: ClassVar[int] = MAX_BODY
    """More than MAX_BODY for bodies with images and PDFs, of which all else has MAX_BODY at most."""

    @field_validator("*")
    @classmethod
    def _no_null(cls, value: object) -> object:
        """Refuses null: leave a field out instead."""
        if value is None:
            raise PydanticCustomError("wrong_type", "null")
        return value


AnyBody = TypeVar("AnyBody", bound=Body)


class Request:
    """An event of a REST API's Lambda proxy integration. Nothing in it is believed but what the authorizer verified."""

    has_key = False
    """True once the route has taken the Idempotency-Key: some take none, whatever is sent."""

    def __init__(self, event: Mapping[str, Any], now_ms: int) -> None:
        self._event = event
        self._now_ms = now_ms
        self._headers = _headers(event)

    @property
    def route(self) -> tuple[str, str]:
        """Method and path template, as the gateway matched them.

        Paths of the Messages API have /v1 once more than the stage's: Anthropic's clients add it to any base URL.
        """
        return str(self._event["httpMethod"]), str(self._event["resource"]).removeprefix("/v1")

    @property
    def id(self) -> str:
        return str(self._event["requestContext"].get("requestId", ""))

    @property
    def caller(self) -> Caller:
        """The verified caller, or the user whom a back end names.

        Raises Unauthorized when nobody is verified, or the token expired while it was cached; Forbidden when a user is
        named without the role `delegate`, and InvalidRequest when that is no user.
        """
        self._require_verified()
        return self._caller_for(self._named_user)

    @property
    def user(self) -> Caller:
        """The caller, who is signed in. Raises Unauthorized, and Forbidden for an anonymous one."""
        caller = self.caller
        caller.require_user()
        return caller

    @property
    def recorded_caller(self) -> Caller:
        """The caller for the record: also one whose token has expired since, or a stranger."""
        named = None
        with suppress(Forbidden, InvalidRequest):  # then it is the one who names, and not who is named
            named = self._named_user
        return self._caller_for(named)

    @property
    def stranger(self) -> Caller:
        """The caller of a public route, known by the address alone. Raises Forbidden when a user is named."""
        if _USER in self._headers:
            raise Forbidden  # whoever names one expects that this user's things are meant
        return Caller(source=self._source)

    @property
    def session_id(self) -> str:
        """The id in the path, for a verified caller. Raises Unauthorized, and SessionNotFound if it has not the form of
        an id: it was never one.
        """
        self.caller  # noqa: B018 (raises when nobody was verified)
        session_id = self.parameter("id")
        if not is_session_id(session_id):
            raise SessionNotFound
        return session_id

    @property
    def named_session(self) -> str | None:
        """The session of the header Turnlog-Session: its id, or NEW_SESSION; None without it. Raises InvalidRequest."""
        if SESSION_HEADER not in self._headers:
            return None
        named = self._header(SESSION_HEADER)
        if named != NEW_SESSION and not is_session_id(named):
            raise InvalidRequest("turnlog_session_invalid")
        return named

    def require_role(self, role: str) -> None:
        """Raises Forbidden unless the caller's token brings the role, and Unauthorized as `caller` does.

        A user whom a back end names has no role, whatever roles the back end has.
        """
        self._require_verified()
        if _USER in self._headers or not self._has_role(role):
            raise Forbidden

    def _require_verified(self) -> None:
        expires_s = self._verified.get("expires")
        if not self._verified.get("owner") or not expires_s or int(expires_s) * 1000 <= self._now_ms:
            raise Unauthorized

    def _has_role(self, role: str) -> bool:
        is_anonymous = self._verified.get("kind") == "anonymous"
        return not is_anonymous and role in str(self._verified.get("roles", "")).split(" ")

    @property
    def _named_user(self) -> str | None:
        """The user of the header Turnlog-User; None without it. Raises Forbidden or InvalidRequest."""
        if _USER not in self._headers:
            return None
        if not self._has_role("delegate"):
            raise Forbidden
        user = self._header(_USER)
        if len(user) > MAX_USER:
            raise InvalidRequest("turnlog_user_too_long")
        if not is_user(user):
            raise InvalidRequest("turnlog_user_invalid")
        return user

    def _caller_for(self, user: str | None) -> Caller:
        owner, is_anonymous = str(self._verified.get("owner") or ""), self._verified.get("kind") == "anonymous"
        if user is None:
            return Caller(owner, is_anonymous, self._source)
        return Caller(delegated_owner(owner, user), is_anonymous, self._source, delegate=owner)

    @property
    def _verified(self) -> Mapping[str, Any]:
        """The authorizer's facts about the caller; every value is a string."""
        verified: Mapping[str, Any] = self._event["requestContext"].get("authorizer") or {}
        return verified

    @property
    def _source(self) -> str:
        """The address that the request comes from, as the gateway saw it, or its network of IPv6.

        One household or machine has a /64 of IPv6 to itself, and could take another address for each request.
        """
        text = str(self._event["requestContext"].get("identity", {}).get("sourceIp"))
        try:
            address = ip_address(text)
        except ValueError:
            return "unknown"  # they share what one address may do
        if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
            return str(ip_network((address, 64), strict=False))
        return str(getattr(address, "ipv4_mapped", None) or address)

    def parameter(self, name: str) -> str:
        """A part of the path."""
        return self.path_parameters[name]

    @property
    def path_parameters(self) -> dict[str, str]:
        """All parts of the path that its template names."""
        return {name: str(value) for name, value in (self._event.get("pathParameters") or {}).items()}

    def query(self, *allowed: str) -> dict[str, str]:
        """The query parameters. Raises InvalidRequest when one is not allowed or given twice, also once in the path."""
        given: Mapping[str, list[str]] = self._event.get("multiValueQueryStringParameters") or {}
        for name, values in given.items():
            is_known = name in allowed or name in self.path_parameters
            details = (
                {"parameter": name} if is_known else {"allowed": list(allowed)}
            )  # another name is the caller's text
            if len(values) > 1 or name in self.path_parameters:
                raise InvalidRequest("parameter_duplicate", details=details)
            if not is_known:
                raise InvalidRequest("parameter_unknown", details=details)
        return {name: values[0] for name, values in given.items()}

    @staticmethod
    def limit(asked: Mapping[str, str], most: int = MOST_LIMIT) -> int:
        """Returns the most items of a page, from the query parameter `limit`. Raises InvalidRequest."""
        text = asked.get("limit", str(DEFAULT_LIMIT))
        if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= most):
            raise InvalidRequest("parameter_invalid", details={"parameter": "limit", "minimum": 1, "maximum": most})
        return int(text)

    @property
    def idempotency_key(self) -> str:
        """The key under which a repeat of this request is found: 1-255 characters of 0x21-0x7E."""
        if not self._header("idempotency-key"):
            raise InvalidRequest("idempotency_key_missing")
        return self.optional_idempotency_key or ""

    @property
    def optional_idempotency_key(self) -> str | None:
        """Like `idempotency_key`, where a request need not have one; None if it has none. An empty key is refused."""
        if "idempotency-key" not in self._headers:
            return None
        key = self._header("idempotency-key")
        if len(key) > MAX_KEY:
            raise InvalidRequest("idempotency_key_too_long")
        if not key or not all("\x21" <= character <= "\x7e" for character in key):
            raise InvalidRequest("idempotency_key_invalid")
        self.has_key = True
        return key

    @property
    def wait_s(self) -> int | None:
        """Seconds that the caller prefers to wait for a busy session, at most 20; None if it does not say.

        `Prefer` (RFC 7240) is a list, in one header or several, in which the first `wait` counts. It is a wish: what is
        not understood of it is left out, unlike anything else in a request.
        """
        for wish in ",".join(self._headers.get("prefer", [])).split(","):
            if found := _WAIT.fullmatch(wish):
                return min(int(found[1].lstrip("0")[:3] or "0"), MOST_WAIT_S)  # three digits are more than the most
        return None

    def body(self, kind: type[AnyBody]) -> AnyBody:
        """The body as a `kind`. Raises an InvalidRequest that names the first rule it breaks."""
        self._require_size(kind.most_bytes)
        self._require_json()
        raw = self._bytes()
        if len(raw) > MAX_BODY:
            # Before it is parsed: many small values take 50 times their size and a second or two, a long text neither.
            _require_text(len(raw) - sum(len(each) for each in _LONG_TEXT.findall(raw) if not _NO_BASE64.search(each)))
        try:
            parsed = strict_json(raw)
        except RecursionError as error:
            raise InvalidRequest("json_invalid", details=where_json_breaks(raw)) from error
        if len(raw) > MAX_BODY:
            _require_text(_text_bytes(parsed))
        try:
            return kind.model_validate_json(raw)
        except ValidationError as error:
            _refuse(error, kind, parsed)

    def raw_body(self, most: int) -> bytes:
        """The body to the byte, which says of itself that it is JSON. Raises an InvalidRequest when it has more than
        `most` bytes, or none.
        """
        self._require_size(most)
        self._require_json()
        return self._bytes()

    def header_values(self, name: str) -> list[str]:
        """All values of a header, by its name in lower case; [] when it was not sent."""
        return self._headers.get(name, [])

    @property
    def header_names(self) -> frozenset[str]:
        """The names of all headers, in lower case."""
        return frozenset(self._headers)

    def _header(self, name: str) -> str:
        """The header's value, empty when it was not sent. Raises InvalidRequest when it was sent twice."""
        values = self._headers.get(name, [])
        if len(values) > 1:
            raise InvalidRequest("header_duplicate")
        return values[0] if values else ""

    def _require_size(self, most: int) -> None:
        body = self._event.get("body") or ""
        is_base64 = self._event.get("isBase64Encoded")
        size = len(body) * 3 // 4 - body[-2:].count("=") if is_base64 else len(body.encode(errors="surrogatepass"))
        if size > most:
            raise BodyTooLarge("body_too_large", details={"maximum": most})

    def _bytes(self) -> bytes:
        body = self._event.get("body")
        if not body:
            raise InvalidRequest("body_missing")
        try:
            raw = base64.b64decode(body, validate=True) if self._event.get("isBase64Encoded") else body.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest("encoding_invalid") from error
        except ValueError as error:  # binascii.Error, and what it says of text that is no ASCII
            raise InvalidRequest("base64_invalid") from error
        return bytes(raw)

    def _require_json(self) -> None:
        media_type, _, parameters = self._header("content-type").partition(";")
        if media_type.strip().lower() != "application/json" or not _is_utf_8(parameters):
            raise MediaTypeUnsupported("media_type_unsupported")
        if (self._header("content-encoding") or "identity").lower() != "identity":
            raise MediaTypeUnsupported("media_type_unsupported")


def _headers(event: Mapping[str, Any]) -> dict[str, list[str]]:
    """All values of each header, by its name in lower case. `headers` alone would show only the last of them."""
    several: Mapping[str, list[str]] | None = event.get("multiValueHeaders")
    sent = several or {name: [value] for name, value in (event.get("headers") or {}).items() if value is not None}
    found: dict[str, list[str]] = {}
    for name, values in sent.items():
        found.setdefault(name.lower(), []).extend(values)
    return found


def _is_utf_8(parameters: str) -> bool:
    """True if the parameters of a media type (RFC 9110, 5.6.6) are well formed and name no other charset than UTF-8.

    JSON defines none, so any other parameter is ignored, and an empty one is too.
    """
    read = [_PARAMETER.fullmatch(each) for each in parameters.split(";") if each.strip()]
    charsets = [each[2].strip('"').lower() for each in read if each and each[1].lower() == "charset"]
    return all(read) and charsets in ([], ["utf-8"])


def _text_bytes(parsed: Any) -> int:
    """Returns the bytes of a body but for its images and PDFs."""
    media = sum(media_bytes(content) for content in _contents(parsed) if isinstance(content, list))
    return len(to_json(parsed).encode()) - media


def _contents(parsed: Any) -> Iterator[Any]:
    """The contents of the messages in a body: of the one of our own routes, or of those of the Messages API."""
    if not isinstance(parsed, dict):
        return
    yield parsed.get("message")
    messages = parsed.get("messages")
    for message in messages if isinstance(messages, list) else ():
        yield message.get("content") if isinstance(message, dict) else None


def _require_text(size: int) -> None:
    if size > MAX_BODY:
        raise BodyTooLarge("text_too_large", details={"maximum": MAX_BODY})


def _refuse(error: ValidationError, body: type[Body], parsed: Any) -> NoReturn:
    """Raises what `error` says first. `parsed` is the body, in which an unknown field is counted."""
    first = error.errors(include_input=False, include_url=False)[0]
    kind, location, rule = first["type"], first["loc"], first.get("ctx", {})
    details = {ours: rule[theirs] for theirs, ours in _TOLD.items() if theirs in rule}
    pointer = "".join(f"/{part}" for part in location)
    if kind == "json_invalid":  # too deep for pydantic's parser
        raise InvalidRequest("json_invalid", details=position_in(rule["error"]))
    if kind == "missing":
        raise InvalidRequest("field_missing", pointer)
    if kind == "extra_forbidden":
        # The name of the field is the caller's text: only its number is said, and which there are.
        number = list(parsed).index(location[0]) + 1
        raise InvalidRequest("unknown_field", "", {"allowed": list(body.model_fields), "field": number})
    if kind == "control_character" or kind.endswith(("_type", "_parsing")):
        raise InvalidRequest(kind if kind == "control_character" else "wrong_type", pointer, details)
    if kind == "model_unknown":
        raise ValueRefused(kind, pointer, details)
    raise ValueRefused(f"{location[0]}_range" if location else "value_range", pointer, details)

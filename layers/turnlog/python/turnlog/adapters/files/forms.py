"""What the files look like: values of `sessions` to bytes and back.

    1 5d3c9a01                      the version of the form, and a checksum (CRC-32) of all that follows the line
    {"state":"done","number":7,…}   names and values as JSON; what this version does not know is left alone
    z…                              the content of a turn, as `packing` packs it

A byte that changed on the disk is always noticed, and a form that this version does not know is never guessed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from turnlog.domain.messages import to_json
from turnlog.domain.packing import pack_turn, unpack_turn
from turnlog.domain.quotas import QuotaCounters
from turnlog.domain.sessions import Session, SessionSettings
from turnlog.domain.turns import Lease, Totals, Turn
from turnlog.errors import ItemUnreadable, ItemVersionUnknown, ModelProtocolError

VERSION = 1


@dataclass(frozen=True, slots=True)
class End:
    """Of a session that left its place: until when the place stays taken, and where it moved under which key."""

    ttl_s: int
    key: bytes = b""
    place: str = ""


def header_bytes(session: Session, title: str) -> bytes:
    settings = session.settings
    return _sealed(
        {
            "id": session.id,
            "title": title,
            "created_ms": session.created_ms,
            "dies_ms": session.expires_ms,
            "idle_ms": session.idle_ms,
            "settings": {"model": settings.model, "max_tokens": settings.max_tokens, "system": settings.system},
            "fingerprint": session.fingerprint.hex(),
        }
    )


def header_of(owner: str, data: bytes) -> tuple[Session, str]:
    """The session and its title. Raises a kind of SessionCorrupt, as all that reads here."""
    with _readable(data) as (head, _):
        chosen = head["settings"]
        settings = SessionSettings(chosen["model"], chosen["max_tokens"], chosen["system"])
        times = head["created_ms"], head["dies_ms"], head["idle_ms"]
        return Session(owner, head["id"], *times, settings, bytes.fromhex(head["fingerprint"])), head["title"]


def lease_bytes(lease: Lease) -> bytes:
    """Without its charges, which are counted elsewhere."""
    return _sealed(
        {
            "state": "running",
            "number": lease.number,
            "token": lease.token,
            "until_ms": lease.lease_expires_ms,
            "key": lease.key.hex(),
            "fingerprint": lease.fingerprint.hex(),
            "at_ms": lease.at_ms,
            "attempt": lease.attempt,
            "others": lease.attempt_counts.hex(),
        }
    )


def turn_bytes(turn: Turn) -> bytes:
    """Raises TurnTooLarge."""
    totals = turn.totals
    head = {
        "state": "done",
        "number": turn.number,
        "token": turn.token,
        "key": turn.key.hex(),
        "fingerprint": turn.fingerprint.hex(),
        "stop_reason": turn.stop_reason,
        "cost_usd": None if turn.cost_usd is None else str(turn.cost_usd),
        "totals": {
            "tokens": totals.tokens,
            "cost_usd": str(totals.cost_usd),
            "content_bytes": totals.content_bytes,
        },
        "at_ms": turn.at_ms,
        "window_from": turn.window_from,
        "older_keys": turn.older_keys.hex(),
        "others": turn.attempt_counts.hex(),
    }
    return _sealed(head, pack_turn(turn))


def forked_bytes(data: bytes) -> bytes | None:
    """A turn as a fork keeps it: see Turn.forked. None when it is not a turn."""
    with _readable(data) as (head, content):
        if head["state"] != "done":
            return None
        return _sealed(head | {"key": "", "fingerprint": "", "older_keys": "", "others": ""}, content)


def slot_of(number: int, data: bytes) -> Lease | Turn:
    with _readable(data) as (head, content):
        if head["number"] != number:
            raise ItemUnreadable
        key, fingerprint = bytes.fromhex(head["key"]), bytes.fromhex(head["fingerprint"])
        token, at_ms = head["token"], head["at_ms"]
        if head["state"] == "running":
            attempt_counts = bytes.fromhex(head["others"])
            return Lease(number, token, head["until_ms"], key, fingerprint, at_ms, head["attempt"], attempt_counts)
        if head["state"] != "done":
            raise ItemUnreadable
        totals, cost = head["totals"], head["cost_usd"]
        messages, calls = unpack_turn(content, None if cost is None else Decimal(cost))
        return Turn(
            number=number,
            token=token,
            key=key,
            fingerprint=fingerprint,
            messages=messages,
            calls=calls,
            stop_reason=head["stop_reason"],
            totals=Totals(totals["tokens"], Decimal(totals["cost_usd"]), totals["content_bytes"]),
            at_ms=at_ms,
            window_from=head["window_from"],
            older_keys=bytes.fromhex(head["older_keys"]),
            attempt_counts=bytes.fromhex(head["others"]),
        )


def end_bytes(end: End) -> bytes:
    return _sealed({"ttl_s": end.ttl_s, "key": end.key.hex(), "place": end.place})


def end_of(data: bytes) -> End:
    with _readable(data) as (head, _):
        return End(head["ttl_s"], bytes.fromhex(head["key"]), head["place"])


def quotas_bytes(quotas: QuotaCounters) -> bytes:
    return _sealed({"used": {counter: [str(used), ends] for counter, (used, ends) in quotas.used.items()}})


def quotas_of(data: bytes) -> QuotaCounters:
    with _readable(data) as (head, _):
        return QuotaCounters({counter: (Decimal(used), ends) for counter, (used, ends) in head["used"].items()})


def _sealed(head: dict[str, Any], content: bytes = b"") -> bytes:
    rest = to_json(head).encode() + b"\n" + content
    return b"%d %08x\n" % (VERSION, zlib.crc32(rest)) + rest


@contextmanager
def _readable(data: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
    """What was sealed; whatever it lacks or has in another form means damage, and is never read as something less."""
    try:
        stamp, _, rest = data.partition(b"\n")
        version, _, checksum = stamp.partition(b" ")
        if version != b"%d" % VERSION:
            raise ItemVersionUnknown if version.isdigit() else ItemUnreadable
        if checksum != b"%08x" % zlib.crc32(rest):
            raise ItemUnreadable
        head, _, content = rest.partition(b"\n")
        yield json.loads(head), content
    except (ArithmeticError, KeyError, ModelProtocolError, TypeError, ValueError, zlib.error) as error:
        raise ItemUnreadable from error

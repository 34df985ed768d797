"""Values to items: sessions, leases, turns and tombstones as the table stores them."""

from __future__ import annotations

from turnlog.adapters.dynamodb.items import (
    ENCRYPTED_VERSION,
    HEADER,
    META,
    VERSION,
    associated_data,
    index_key,
    part_sk,
    partition,
    slot_sk,
)
from turnlog.adapters.dynamodb.table import Item, key, n, s
from turnlog.domain.content_encryption import PLAIN, ContentCipher
from turnlog.domain.messages import to_json
from turnlog.domain.packing import pack, pack_turn
from turnlog.domain.sessions import Session
from turnlog.domain.turns import Lease, Turn

PART_BYTES = 390_000
"""The most content of a turn in one item: an item holds 400 KB (409,600 bytes), attribute names included."""


def header_item(session: Session) -> Item:
    """The item that makes the session exist: its times and its encrypted settings."""
    settings = session.settings
    chosen = {"model": settings.model, "max_tokens": settings.max_tokens, "system": settings.system}
    item = _content_item(session, HEADER) | {
        "created": n(session.created_ms),
        "dies": n(session.expires_ms),
        "idle": n(session.idle_ms),
    }
    if session.fingerprint:
        item["fp"] = {"B": session.fingerprint}
    return item | {"cfg": {"B": session.cipher.encrypt(associated_data(item, "cfg"), pack(to_json(chosen)))}}


def meta_item(session: Session, title: str) -> Item:
    """The item that holds the session's title."""
    item = _content_item(session, META)
    return item | {"title": _encrypted_text(item, "title", title, session.cipher)}


def index_item(session: Session) -> Item:
    """The item that names the session in its owner's partition."""
    item = index_key(session.owner, session.id) | _common(session, session.cipher) | {"created": n(session.created_ms)}
    return item | {"sid": _encrypted_text(item, "sid", session.id, session.cipher)}


def lease_item(session: Session, lease: Lease) -> Item:
    """The slot while its turn is running. Its charges are stored in the usage table."""
    item = _contentless_item(session, slot_sk(lease.number)) | {
        "st": s("running"),
        "tok": s(lease.token),
        "til": n(lease.lease_expires_ms),
        "k": {"B": lease.key},
        "fp": {"B": lease.fingerprint},
        "ts": n(lease.at_ms),
        "att": n(lease.attempt),
    }
    if lease.attempt_counts:
        item["oth"] = {"B": lease.attempt_counts}
    if lease.moving_to:
        item["dst"] = s(lease.moving_to)
    if lease.unfinished_move_to:
        item["und"] = s(lease.unfinished_move_to)
    return item


def turn_items(session: Session, turn: Turn) -> list[Item]:
    """The turn's own item, followed by the parts of its content when that does not fit into one item.

    Raises TurnTooLarge or TurnFormUnsupported.
    """
    item = _content_item(session, slot_sk(turn.number)) | {
        "st": s("done"),
        "tok": s(turn.token),
        "k": {"B": turn.key},
        "fp": {"B": turn.fingerprint},
        "fin": s(turn.stop_reason),
        "ts": n(turn.at_ms),
        "from": n(turn.window_from),
        "rk": {"B": turn.older_keys},
        "tot": {
            "M": {
                "tokens": n(turn.totals.tokens),
                "usd": n(turn.totals.cost_usd),
                "bytes": n(turn.totals.content_bytes),
            }
        },
    }
    if turn.cost_usd is not None:
        item["usd"] = n(turn.cost_usd)
    if turn.attempt_counts:
        item["oth"] = {"B": turn.attempt_counts}
    content = session.cipher.encrypt(associated_data(item, "body"), pack_turn(turn))
    if len(content) <= PART_BYTES:
        return [item | {"body": {"B": content}}]
    parts = [content[at : at + PART_BYTES] for at in range(0, len(content), PART_BYTES)]
    return [item | {"parts": n(len(parts))}] + [
        _content_item(session, part_sk(turn.number, at)) | {"part": {"B": part}} for at, part in enumerate(parts, 1)
    ]


def tombstone_item(pk: str, sk: str, ttl: Item | None) -> Item:
    """The item that keeps a slot taken after its session was deleted or moved, or has expired."""
    return key(pk, sk) | {"v": n(VERSION), "st": s("ended")} | ({"ttl": ttl} if ttl else {})


def lease_values(token: str, now_ms: int | None = None) -> Item:
    """The values for the condition MINE or, with `now_ms`, for LAPSED."""
    given = {":running": s("running"), ":token": s(token)}
    return given if now_ms is None else given | {":now": n(now_ms)}


def _contentless_item(session: Session, sk: str) -> Item:
    return key(partition(session.owner, session.id), sk) | _common(session, PLAIN)


def _content_item(session: Session, sk: str) -> Item:
    return key(partition(session.owner, session.id), sk) | _common(session, session.cipher)


def _common(session: Session, cipher: ContentCipher) -> Item:
    if cipher.kid:
        return {"v": n(ENCRYPTED_VERSION), "kid": s(cipher.kid), "ttl": n(session.ttl_s)}
    return {"v": n(VERSION), "ttl": n(session.ttl_s)}


def _encrypted_text(item: Item, attribute: str, text: str, cipher: ContentCipher) -> Item:
    return {"B": cipher.encrypt(associated_data(item, attribute), text.encode())} if cipher.kid else s(text)

"""Values to items: sessions, leases, turns, steps and tombstones as the table stores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from turnlog.adapters.dynamodb.items import (
    ENCRYPTED_VERSION,
    END,
    EXTENDED_VERSION,
    HEADER,
    MESSAGE,
    META,
    OWN,
    VERSION,
    associated_data,
    index_key,
    partition,
    piece_sk,
    reply_name,
    results_name,
    slot_sk,
)
from turnlog.adapters.dynamodb.table import LAST_WRITTEN, WRITTEN_ONCE, Item, key, n, s
from turnlog.domain.content_encryption import PLAIN, ContentCipher
from turnlog.domain.messages import Message, to_json
from turnlog.domain.packing import is_one_exchange, pack, pack_content, pack_messages, pack_reply, pack_turn
from turnlog.domain.sessions import Metadata, Session, SessionSettings
from turnlog.domain.turns import MAX_TURN_BYTES, Lease, Step, Turn
from turnlog.errors import TurnTooLarge

PART_BYTES = 390_000
"""The most content in one item: an item holds 400 KB (409,600 bytes), attribute names included."""

EXTRA_SETTINGS = tuple(
    field for field in fields(SessionSettings) if field.name not in ("model", "max_tokens", "system")
)
"""Settings that only version 3 knows; a header leaves out those that have their default."""


def header_item(session: Session) -> Item:
    """The item that makes the session exist: its times and its encrypted settings."""
    settings = session.settings
    chosen = {"model": settings.model, "max_tokens": settings.max_tokens, "system": settings.system}
    given = {each.name: getattr(settings, each.name) for each in EXTRA_SETTINGS}
    extra = {each.name: given[each.name] for each in EXTRA_SETTINGS if given[each.name] != each.default}
    item = _content_item(session, HEADER, extended=bool(extra)) | {
        "created": n(session.created_ms),
        "dies": n(session.expires_ms),
        "idle": n(session.idle_ms),
    }
    if session.fingerprint:
        item["fp"] = {"B": session.fingerprint}
    return item | {"cfg": {"B": session.cipher.encrypt(associated_data(item, "cfg"), pack(to_json(chosen | extra)))}}


def meta_item(session: Session, title: str, metadata: Metadata = ()) -> Item:
    """The item that holds the session's title and, if it has any, its metadata."""
    item = _content_item(session, META)
    made = item | {"title": _encrypted_text(item, "title", title, session.cipher)}
    if metadata:
        made["md"] = _encrypted_text(item, "md", to_json(dict(metadata)), session.cipher)
    return made


def index_item(session: Session) -> Item:
    """The item that names the session in its owner's partition."""
    item = index_key(session.owner, session.id) | _common(session, session.cipher) | {"created": n(session.created_ms)}
    return item | {"sid": _encrypted_text(item, "sid", session.id, session.cipher)}


def lease_item(session: Session, lease: Lease) -> Item:
    """The slot while its turn is running. Its charges are stored in the usage table."""
    item = key(partition(session.owner, session.id), slot_sk(lease.number)) | _common(session, PLAIN)
    item |= {
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
    if lease.sequence:
        item |= {"v": n(EXTENDED_VERSION), "seq": n(lease.sequence)}
    if lease.steps:
        item |= {"v": n(EXTENDED_VERSION), "ns": n(lease.steps)}
    if lease.stop_asked:
        item["stop"] = {"BOOL": True}
    if lease.moving_to:
        item["dst"] = s(lease.moving_to)
    if lease.unfinished_move_to:
        item["und"] = s(lease.unfinished_move_to)
    return item


def turn_items(session: Session, turn: Turn, *, has_results: bool = False) -> list[Item]:
    """The turn's own item, followed by the parts of its own content when that does not fit into it.

    The content of its steps is not stored again; `has_results` says that the last one's results are stored with it.
    Raises TurnTooLarge.
    """
    if not turn.steps:
        item = turn_item(session, turn, extended=bool(turn.window_system) or not is_one_exchange(turn))
        return with_content(session, item, pack_turn(turn))
    item = turn_item(session, turn, extended=True)
    stored, own = turn.messages[: _after_steps(turn)], turn.messages[_after_steps(turn) :]
    if last_results(turn) and has_results:
        stored, own = (*stored, own[0]), own[1:]
    first = [message.role for message in stored].index("assistant")
    item["kept"] = s("".join("s" if message.role == "assistant" else "r" for message in stored[first:]))
    if not own and not turn.window_system:
        item["kept"]["S"] += END
        return [item]
    return with_content(session, item, pack_content(own, turn.calls[turn.steps :], turn.window_system))


def last_results(turn: Turn) -> Message | None:
    """The message with the results of the last step's tools; None if it has none."""
    after = turn.messages[_after_steps(turn) :]
    return after[0] if after and after[0].role == "user" else None


def turn_item(session: Session, turn: Turn, *, extended: bool) -> Item:
    """The turn's own item without any content."""
    item = _content_item(session, slot_sk(turn.number), extended=extended) | {
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
    if turn.steps:
        item["ns"] = n(turn.steps)
    return item


def with_content(session: Session, item: Item, packed: bytes) -> list[Item]:
    """The turn's item with this content of its own: in it or, if that is too large, in further items."""
    content = session.cipher.encrypt(associated_data(item, "body"), packed)
    if len(content) <= PART_BYTES:
        return [item | {"body": {"B": content}}]
    item |= {"v": n(EXTENDED_VERSION), "below": {"BOOL": True}}
    return [item, *piece_items(session, int(item["sk"]["S"]), OWN, packed)]


def step_items(session: Session, number: int, step: Step, message: Sequence[Message]) -> list[Item]:
    """The items of a checkpoint: the step's results or, if it has none yet, its reply, and the caller's `message`.

    Raises TurnTooLarge.
    """
    if step.results:
        return piece_items(session, number, results_name(step.number), pack_messages([step.results]))
    pieces = [(MESSAGE, pack_messages(message))] if message else []
    pieces.append((reply_name(step.number), pack_reply(step)))
    if sum(len(packed) for _, packed in pieces) > MAX_TURN_BYTES:
        raise TurnTooLarge
    return [item for name, packed in pieces for item in piece_items(session, number, name, packed)]


def piece_items(session: Session, number: int, name: str, packed: bytes) -> list[Item]:
    """The items of a piece of content that lies below slot `number`."""
    first = _content_item(session, piece_sk(number, name), extended=True)
    content = session.cipher.encrypt(associated_data(first, "body"), packed)
    parts = [content[at : at + PART_BYTES] for at in range(0, len(content), PART_BYTES)]
    if len(parts) > 1:
        first["parts"] = n(len(parts))
    rest = [_content_item(session, piece_sk(number, name, at), extended=True) for at in range(2, len(parts) + 1)]
    return [item | {"part": {"B": part}} for item, part in zip([first, *rest], parts, strict=True)]


def tombstone_item(pk: str, sk: str, ttl: Item | None) -> Item:
    """The item that keeps a slot taken after its session was deleted or moved, or has expired."""
    return key(pk, sk) | {"v": n(VERSION), "st": s("ended")} | ({"ttl": ttl} if ttl else {})


def lease_values(token: str, now_ms: int | None = None) -> Item:
    """The values for the condition MINE or, with `now_ms`, for LAPSED."""
    given = {":running": s("running"), ":token": s(token)}
    return given if now_ms is None else given | {":now": n(now_ms)}


def last_written(condition: str, sequence: int, values: Item) -> tuple[str, Item]:
    """The condition, and that the lease was last written under this sequence number; with the values of both."""
    if not sequence:
        return f"({condition}) AND {WRITTEN_ONCE}", values
    return f"({condition}) AND {LAST_WRITTEN}", values | {":seq": n(sequence)}


def _after_steps(turn: Turn) -> int:
    """The number of the turn's messages up to the reply of its last step."""
    replies = [at for at, message in enumerate(turn.messages) if message.role == "assistant"]
    return replies[turn.steps - 1] + 1


def _content_item(session: Session, sk: str, *, extended: bool = False) -> Item:
    item = key(partition(session.owner, session.id), sk) | _common(session, session.cipher)
    return item | {"v": n(EXTENDED_VERSION)} if extended else item


def _common(session: Session, cipher: ContentCipher) -> Item:
    if cipher.kid:
        return {"v": n(ENCRYPTED_VERSION), "kid": s(cipher.kid), "ttl": n(session.ttl_s)}
    return {"v": n(VERSION), "ttl": n(session.ttl_s)}


def _encrypted_text(item: Item, attribute: str, text: str, cipher: ContentCipher) -> Item:
    return {"B": cipher.encrypt(associated_data(item, attribute), text.encode())} if cipher.kid else s(text)

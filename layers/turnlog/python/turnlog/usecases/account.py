"""Everything of a user: exported, or erased."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from turnlog.domain.answers import bytes_in_answer
from turnlog.domain.documents import Document
from turnlog.domain.messages import to_json
from turnlog.domain.owners import owner_hash
from turnlog.domain.server_key import ServerKey
from turnlog.domain.sessions import SessionView, is_session_id
from turnlog.domain.turns import Turn
from turnlog.errors import ErasureUnfinished, SessionCorrupt, SessionNotFound, SessionUnreadable
from turnlog.ports.document_store import DocumentStore
from turnlog.ports.session_store import SessionStore
from turnlog.usecases.audit import Audit
from turnlog.usecases.caller import Caller
from turnlog.usecases.cursors import make_cursor, read_cursor
from turnlog.usecases.turn_pages import MOST_TURNS, READ_AT_ONCE, has_room, turns_after

LEFT_FOR_A_DELETION_S = 10
"""Seconds before the gateway gives up in which no deletion begins: that of a long session is many calls."""

MOST_SESSIONS = 200
"""Sessions that are read for one part of an export, one after the other: 2 to 4 s at 512 MB if they are short."""

_SESSION_BYTES = 2000  # of a session in an answer, beside its system prompt and metadata: the title is most of it


@dataclass(slots=True)
class ExportPart:
    """One part of an export. `next` is the cursor of the next part; None when this is the last.

    `damaged` are ids of sessions that cannot be read, `unavailable` those of sessions that cannot be read now: a later
    version stored them, or a clock is wrong. `unnamed` counts those whose very id cannot be read, and `documents` are
    in the first part alone.
    """

    sessions: list[tuple[SessionView, Sequence[Turn]]] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    unavailable: list[str] = field(default_factory=list)
    unnamed: int = 0
    documents: list[Document] = field(default_factory=list)
    next: str | None = None

    @property
    def turns(self) -> list[Turn]:
        """The turns of all sessions of the part."""
        return [turn for _, turns in self.sessions for turn in turns]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The numbers of sessions and documents that an erasure removed; expired sessions that were not swept count.

    `left` is the number of sessions for which there was no time: it is a receipt only when that is 0.
    """

    sessions: int
    documents: int
    left: int = 0


def export_everything(
    caller: Caller,
    *,
    cursor: str | None,
    store: SessionStore,
    documents: DocumentStore,
    server_key: ServerKey,
    audit: Audit,
    now_ms: int,
) -> ExportPart:
    """Returns every session with its turns, and the documents, in as many parts as it takes.

    A session that is longer than a part goes on in the next one. A session that begins, or a turn that is taken,
    between two parts may be missing. A part ends after MOST_SESSIONS, so where many have expired it may be empty.
    Raises Unauthorized, Forbidden, InvalidRequest for a bad cursor, AuditUnavailable or StoreUnavailable.
    """
    owner, names = caller.require_user(), ("export", caller.owner)
    begin_at, after = "", 0
    if cursor is not None:
        begin_at, number = read_cursor(server_key, cursor, *names).split(" ")
        after = int(number)
    audit.act("export all")
    part, position = _fill(owner, store, now_ms, begin_at, after)
    if not begin_at:
        part.documents = documents.list_documents(owner_hash(owner))
    if position:
        part.next = make_cursor(server_key, f"{position[0]} {position[1]}", *names)
    return part


def erase_everything(
    caller: Caller,
    *,
    store: SessionStore,
    documents: DocumentStore,
    audit: Audit,
    now_ms: int,
    answer_s: Callable[[], float],
) -> Receipt:
    """Removes everything of the caller, as much as there is time for; whatever cuts it off, a repeat goes on.

    The keys go before the sessions, so that sessions and backups are unreadable from then on. `answer_s` returns the
    seconds until nobody waits for the answer any more. Raises Unauthorized, Forbidden, AuditUnavailable or
    StoreUnavailable.
    """
    owner = caller.require_user()
    audit.act("erase")
    removed = documents.erase(owner_hash(owner))
    try:
        erased = store.erase(owner, now_ms, has_time=lambda: answer_s() > LEFT_FOR_A_DELETION_S)
    except ErasureUnfinished as error:
        return Receipt(error.erased, removed, error.left)
    return Receipt(erased, removed)


def _fill(
    owner: str, store: SessionStore, now_ms: int, begin_at: str, after: int
) -> tuple[ExportPart, tuple[str, int] | None]:
    """Returns a part that begins after turn `after` of session `begin_at`, and where the next part begins."""
    part, held, beside_bytes = ExportPart(), list[Turn](), 0
    for number, session_id in enumerate(sorted(each for each in store.session_ids(owner) if each >= begin_at)):
        already = after if session_id == begin_at else 0
        if number == MOST_SESSIONS or not has_room(held, beside_bytes):
            return part, (session_id, already)
        try:
            # A session that fits into one read costs one, and one that goes on needs its later turns alone.
            newest = 1 if already else READ_AT_ONCE
            view = store.read(owner, session_id, now_ms, newest, with_content=False)
            texts = to_json([view.session.settings.system, view.metadata])
            more = beside_bytes + _SESSION_BYTES + bytes_in_answer(texts)
            turns = turns_after(store, view, already, MOST_TURNS, now_ms, beside=held, beside_bytes=more)
        except SessionNotFound:
            continue
        except SessionUnreadable as error:
            if not is_session_id(session_id):
                part.unnamed += 1
            elif isinstance(error, SessionCorrupt):
                part.damaged.append(session_id)
            else:
                part.unavailable.append(session_id)
            continue
        if held and not turns and already < view.count:
            return part, (session_id, already)
        held += turns
        beside_bytes = more
        part.sessions.append((view, turns))
        if already + len(turns) < view.count:
            return part, (session_id, already + len(turns))
    return part, None

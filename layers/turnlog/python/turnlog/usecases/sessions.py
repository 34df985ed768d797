"""A session's life: created, read, changed and deleted by its owner."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from turnlog.clock import utc_date
from turnlog.domain.chosen_tools import ChosenTools
from turnlog.domain.messages import CacheLifetime, Effort, to_json
from turnlog.domain.model_limits import require_possible
from turnlog.domain.models import require_not_retired
from turnlog.domain.output.schemas import OutputSchema
from turnlog.domain.owners import anonymous_owner
from turnlog.domain.quotas import QuotaCharges
from turnlog.domain.server_key import ServerKey
from turnlog.domain.sessions import (
    Metadata,
    Session,
    SessionChanges,
    SessionSettings,
    SessionView,
    named_session_id,
    new_session_id,
)
from turnlog.domain.turns import Turn
from turnlog.errors import KeyReused, KeyUsedUp, ModelRetired, SessionNotFound, ValueRefused
from turnlog.ports.session_store import SessionStore
from turnlog.usecases.audit import Audit
from turnlog.usecases.caller import Caller
from turnlog.usecases.continuations import read_continuation
from turnlog.usecases.policy import CreationPolicy


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session as it is asked for. None is a setting that the caller left out.

    `continuation` begins the session after a question; it brings the settings of that question.
    """

    system: str | None = None
    model: str | None = None
    max_tokens: int | None = None
    title: str | None = None
    idle_timeout_s: int | None = None
    lifetime_s: int | None = None
    tools: ChosenTools | None = None
    tool_choice: Literal["auto", "none"] | None = None
    continuation: str | None = None
    secret_sha256: str | None = None
    stop_sequences: tuple[str, ...] | None = None
    thinking: str | None = None
    effort: Effort | None = None
    cache: CacheLifetime | None = None
    metadata: Metadata | None = None
    output: OutputSchema | None = None

    @property
    def canonical(self) -> bytes:
        """One text for one request: what it says, in this order, without what it leaves out. It must not change."""
        said = {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}
        if self.tools:  # not what they stand for, which another version may define otherwise
            said["tools"] = self.tools.asked
        if self.output:
            said["output"] = self.output.asked
        return to_json(said).encode()

    def session(
        self,
        owner: str,
        session_id: str,
        fingerprint: bytes,
        policy: CreationPolicy,
        now_ms: int,
    ) -> Session:
        """Returns the new session.

        Raises ValueRefused if it asks for a longer life than the policy gives, or for what its model does not do.
        """
        defaults, life = policy.defaults, policy.life
        idle_s = _within("idle_timeout_s", self.idle_timeout_s, life.idle)
        lifetime_s = _within("lifetime_s", self.lifetime_s, life.lifetime)
        settings = SessionSettings(
            self.model or defaults.model,
            defaults.max_tokens if self.max_tokens is None else self.max_tokens,
            defaults.system if self.system is None else self.system,
            self.stop_sequences or (),
            self.thinking or "",
            self.effort or "",
            cache=self.cache or defaults.cache,
            tools=self.tools.definitions if self.tools else "",
            own_tools=self.tools.own if self.tools else (),
            tool_choice=(self.tool_choice or "") if self.tools and self.tools.definitions else "",
            output_schema=self.output.form if self.output else "",
        )
        require_possible(settings)
        return Session(owner, session_id, now_ms, now_ms + lifetime_s * 1000, idle_s * 1000, settings, fingerprint)

    def view(self, made: Session, first: Turn | None = None) -> SessionView:
        """Returns the session as it began, maybe with a first turn."""
        turns = (first,) if first else ()
        return SessionView(made, self.title or "", len(turns), turns, metadata=self.metadata or ())

    def require_no_settings(self) -> None:
        """Raises ValueRefused if it says what its continuation says already."""
        for name in (
            "system",
            "model",
            "max_tokens",
            "stop_sequences",
            "thinking",
            "effort",
            "output",
            "tools",
            "tool_choice",
        ):
            if getattr(self, name) is not None:
                raise ValueRefused("continuation_settles", f"/{name}")


def create_session(
    caller: Caller,
    asked: NewSession,
    *,
    key: str | None,
    store: SessionStore,
    server_key: ServerKey,
    audit: Audit,
    policy: CreationPolicy,
    now_ms: int,
) -> SessionView:
    """Creates a session of a signed-in caller; returns the one that was created under the same `key` before.

    Raises Unauthorized, Forbidden, ValueRefused (a life that is too long, a bad continuation), ModelRetired, KeyReused
    when the key stands for another request, KeyUsedUp when its session is gone, QuotaExceeded, ErasureInProgress,
    AuditUnavailable or what SessionStore.create raises.
    """
    owner = caller.require_user()
    session_id = new_session_id() if key is None else session_id_under(key, owner, server_key)
    fingerprint = b"" if key is None else server_key.keyed_hash("fingerprint", asked.canonical)
    session = asked.session(owner, session_id, fingerprint, policy, now_ms)
    first = None
    if asked.continuation is not None:
        asked.require_no_settings()
        # A repeat may come after the continuation's time.
        if key is None or find_existing(store, owner, session_id, now_ms) is None:
            begun = read_continuation(server_key, asked.continuation, owner, policy.window, now_ms)
            settings = replace(begun.settings, cache=session.settings.cache)
            session, first = replace(session, settings=settings), begun.turn
    _require_not_retired(session, store, now_ms)
    audit.act("create", session_id)
    made = _make(store, session, asked, policy.charges(caller, server_key, now_ms), first)
    if key is not None:  # it may have been there, and gone on
        return store.read(owner, session_id, now_ms, newest=1, with_content=False)
    return asked.view(made, first)


def session_id_under(key: str, owner: str, server_key: ServerKey) -> str:
    """The id of the session that the owner makes under an idempotency key."""
    return named_session_id(server_key.keyed_hash("session", owner.encode(), key.encode()))


def create_anonymous_session(
    caller: Caller,
    asked: NewSession,
    *,
    store: SessionStore,
    server_key: ServerKey,
    audit: Audit,
    policy: CreationPolicy,
    now_ms: int,
) -> SessionView:
    """Creates a session of whoever holds the secret with the hash `asked.secret_sha256`; a repeat returns the same.

    The session is returned as it began, also to a repeat: whoever has only the hash learns nothing of what it became.
    Raises Forbidden where no anonymous session may begin, ValueRefused without a hash, ModelRetired also for a repeat;
    else as `create_session`.
    """
    policy.require_anonymous_sessions()
    if asked.secret_sha256 is None:  # all such sessions would have one owner
        raise ValueRefused("secret_sha256_range", "/secret_sha256")
    owner, hashed = anonymous_owner(asked.secret_sha256), server_key.keyed_hash
    session_id = named_session_id(hashed("anonymous-session", owner.encode()))
    fingerprint = hashed("fingerprint", asked.canonical)
    session = asked.session(owner, session_id, fingerprint, policy, now_ms)
    require_not_retired(
        session.settings.model, utc_date(now_ms)
    )  # also for a repeat, or a hash would tell of a session
    audit.act_from_source("create", session_id)
    stranger = Caller(source=caller.source)
    charges = policy.charges(stranger, server_key, now_ms)
    return asked.view(_make(store, session, asked, charges))


def read_session(caller: Caller, session_id: str, *, store: SessionStore, now_ms: int) -> SessionView:
    """Returns the session with its last turn. Raises Unauthorized or what SessionStore.read raises."""
    return store.read(caller.require_verified(), session_id, now_ms, newest=1, with_content=False)


def change_session(
    caller: Caller, session_id: str, changes: SessionChanges, *, store: SessionStore, audit: Audit, now_ms: int
) -> SessionView:
    """Gives the session another title, metadata or both, and returns it.

    Raises Unauthorized, SessionNotFound or AuditUnavailable.
    """
    owner = caller.require_verified()
    audit.act("change", session_id)
    store.change(owner, session_id, changes, now_ms)
    return store.read(owner, session_id, now_ms, newest=1, with_content=False)


def delete_session(caller: Caller, session_id: str, *, store: SessionStore, audit: Audit, now_ms: int) -> None:
    """Deletes the session; all its content is gone on return. Raises SessionNotFound when none was alive."""
    owner = caller.require_verified()
    audit.act("delete", session_id)
    if not store.delete(owner, session_id, now_ms):
        raise SessionNotFound


def _require_not_retired(session: Session, store: SessionStore, now_ms: int) -> None:
    """Raises ModelRetired unless the session exists: a repeat gets its session, whatever retired meanwhile."""
    try:
        require_not_retired(session.settings.model, utc_date(now_ms))
    except ModelRetired:
        if find_existing(store, session.owner, session.id, now_ms) is None:
            raise


def find_existing(store: SessionStore, owner: str, session_id: str, now_ms: int) -> SessionView | None:
    """Returns the owner's session of this id; None if there is none."""
    with suppress(SessionNotFound):
        return store.read(owner, session_id, now_ms, newest=1, with_content=False)
    return None


def _make(
    store: SessionStore, session: Session, asked: NewSession, charges: QuotaCharges | None, first: Turn | None = None
) -> Session:
    try:
        made = store.create(session, asked.title or "", metadata=asked.metadata or (), quota=charges, first=first)
    except SessionNotFound as error:
        raise KeyUsedUp from error
    if made.fingerprint != session.fingerprint:
        raise KeyReused
    return made


def _within(name: str, asked_s: int | None, limit: timedelta) -> int:
    longest_s = int(limit.total_seconds())
    if asked_s is not None and asked_s > longest_s:
        raise ValueRefused(f"{name}_range", f"/{name}", {"maximum": longest_s})
    return longest_s if asked_s is None else asked_s

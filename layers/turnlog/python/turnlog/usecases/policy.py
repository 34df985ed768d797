"""Policy: everything that a deployment decides for its callers, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from turnlog.domain.limits import OwnerLimits, anonymous_creation_charges, creation_charges
from turnlog.domain.quotas import QuotaCharges
from turnlog.domain.server_key import ServerKey
from turnlog.domain.sessions import SessionSettings
from turnlog.domain.window import WindowPolicy
from turnlog.errors import Forbidden
from turnlog.usecases.caller import Caller
from turnlog.usecases.turn_request import TurnPolicy


@dataclass(frozen=True, slots=True)
class SessionLife:
    """The longest that a session may live: without a turn (`idle`), and in all (`lifetime`)."""

    idle: timedelta
    lifetime: timedelta


@dataclass(frozen=True, slots=True)
class AnonymousLimits:
    """The limits of anonymous callers, beside those that hold for everybody; None is no limit."""

    may_begin: bool = True
    """False: no anonymous session begins, nor is forked. Those that there are go on."""
    turns: int | None = None
    """Turns of one anonymous session."""
    turns_a_minute: int | None = None
    """Turns of all anonymous callers together, and as many waits for a busy session."""
    creations_an_hour: int | None = None
    """Anonymous sessions that one source address may make, forked and rotated ones included."""


def turn_policy_of(caller: Caller, policy: TurnPolicy, anonymous: AnonymousLimits) -> TurnPolicy:
    """Returns the rules of the caller's turns.

    An anonymous session takes fewer turns, and all of them together only so many a minute, or they would keep out
    people who are signed in.
    """
    if not caller.is_anonymous:
        return policy
    turns = min(filter(None, [anonymous.turns, policy.session.turns]), default=None)
    owner = replace(policy.owner, anonymous_turns_a_minute=anonymous.turns_a_minute)
    return replace(policy, session=replace(policy.session, turns=turns), owner=owner)


@dataclass(frozen=True, slots=True)
class CreationPolicy:
    """The rules of every new session, forked and moved ones included.

    `defaults` are the settings that a caller leaves out, and `window` is that of the first turn of a session which
    begins with a continuation.
    """

    defaults: SessionSettings
    life: SessionLife
    owner: OwnerLimits
    anonymous: AnonymousLimits
    window: WindowPolicy

    def charges(self, caller: Caller, server_key: ServerKey, now_ms: int) -> QuotaCharges | None:
        """Returns the charges for a new, forked or moved session, and the owner or address that pays.

        A signed-in caller pays as an owner. An anonymous one, or a stranger, is counted by a keyed hash of the address.
        """
        if caller.owner and not caller.is_anonymous:
            return creation_charges(caller.owner, self.owner, now_ms)
        source = f"source:{caller.source_hash(server_key)}"
        return anonymous_creation_charges(source, self.anonymous.creations_an_hour, now_ms)

    def require_anonymous_sessions(self) -> None:
        """Raises Forbidden where no anonymous session may begin."""
        if not self.anonymous.may_begin:
            raise Forbidden

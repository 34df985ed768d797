"""Mutants of taking a turn: its lease, its commit and its key."""

from __future__ import annotations

from tests.promises.mutants.code_patterns import (
    Field,
    Local,
    calls,
    choices,
    comparisons,
    conditions,
    keyword,
    results,
    uses,
)
from tests.promises.mutants.mutant import (
    ALWAYS,
    IMPOSSIBLE,
    LAPSED_OF_ANY,
    LAPSED_OR_EMPTY,
    LAPSED_OR_NOT,
    RUNNING_OF_ANY,
    mutant,
)
from tests.promises.mutants.patching import Edit, otherwise, unconditional
from turnlog.adapters.dynamodb.store import DynamoDBSessionStore
from turnlog.adapters.dynamodb.table import EMPTY, LAPSED, MINE, Table
from turnlog.domain import older_keys
from turnlog.domain.sessions import SessionView
from turnlog.domain.turns import Lease, Turn
from turnlog.ports.session_store import TurnStore
from turnlog.usecases.finished_turn import turn_of
from turnlog.usecases.running_turn import RunningTurn
from turnlog.usecases.turn_protocol import ATTEMPTS, _Taking

LEASES = (
    mutant(
        "a lease is conditional",
        Edit(DynamoDBSessionStore.acquire, calls(Table.put), unconditional),
        Edit(DynamoDBSessionStore.acquire, calls(Table.put_action), unconditional),
        quick=True,
    ),
    mutant(
        "a lease of an empty slot is conditional",
        Edit(DynamoDBSessionStore.acquire, uses(EMPTY), "None"),
        quick=True,
    ),
    mutant(
        "a lease that has not run out is respected",
        Edit(DynamoDBSessionStore.acquire, uses(LAPSED), LAPSED_OR_NOT),
        Edit(SessionView.running_at, results(), "False"),
        quick=True,
    ),
    mutant(
        "the condition of a takeover names the lease",
        Edit(DynamoDBSessionStore.acquire, uses(LAPSED), LAPSED_OR_NOT),
        harmless="the reader has looked at the lease, and the token says that the lease is still the one it looked at",
    ),
    mutant(
        "a reader looks at the lease before it takes the slot",
        Edit(SessionView.running_at, results(), "False"),
        harmless="the condition of the takeover names the lease",
    ),
    mutant(
        "a lapsed lease can be taken over",
        Edit(DynamoDBSessionStore.acquire, uses(LAPSED), IMPOSSIBLE),
    ),
    mutant(
        "a takeover is compare-and-set on the lease that was seen",
        Edit(DynamoDBSessionStore.acquire, uses(LAPSED), LAPSED_OF_ANY),
    ),
    mutant(
        "a takeover needs the lease that was seen to be there",
        Edit(DynamoDBSessionStore.acquire, uses(LAPSED), LAPSED_OR_EMPTY),
        harmless="an empty slot is anybody's, and that of an ended session holds a tombstone until no lease can live",
    ),
    mutant(
        "a lease that another one won is looked at",
        Edit(_Taking._take, comparisons(Field(Lease, "token")), "True"),
        quick=True,
    ),
    mutant(
        "one's own lease is recognised when its answer was lost",
        Edit(_Taking._take, comparisons(Field(Lease, "token")), "found is lease"),
        harmless="the lease is taken for somebody else's and lapses: a lease is lost, and no data",
    ),
    mutant(
        "a running lease counts as use",
        Edit(SessionView.active_ms, choices(Field(SessionView, "_lease")), otherwise),
    ),
    mutant(
        "a lease of unknown fate is given back",
        Edit(_Taking._acquire, calls(TurnStore.release), "None"),
        harmless="it lapses: a lease is lost, and no data",
    ),
)

COMMITS = (
    mutant(
        "a commit is conditional",
        Edit(DynamoDBSessionStore.commit, calls(Table.put), unconditional),
        quick=True,
    ),
    mutant(
        "a commit in a transaction is conditional",
        Edit(DynamoDBSessionStore.commit, calls(Table.put_action), unconditional),
        quick=True,
    ),
    mutant(
        "a commit is conditional on its own token",
        Edit(DynamoDBSessionStore.commit, uses(MINE).every, RUNNING_OF_ANY),
        quick=True,
    ),
    mutant(
        "a commit that found another turn is refused",
        Edit(RunningTurn._commit, comparisons(Field(Turn, "key")), "True"),
    ),
    mutant(
        "one's own turn is recognised when the answer to its commit was lost",
        Edit(RunningTurn._commit, comparisons(Field(Turn, "key")), "found is turn"),
        harmless="the caller is told to ask again, and then gets the stored turn",
    ),
    mutant(
        "a release is conditional",
        Edit(DynamoDBSessionStore.release, calls(Table.delete), unconditional),
    ),
    mutant(
        "a release in a transaction is conditional",
        Edit(
            DynamoDBSessionStore.release,
            calls(Table.delete_action),
            f"self._sessions.delete_action(slot, {ALWAYS}, mine)",
        ),
    ),
    mutant(
        "a release gives back its own lease alone",
        Edit(DynamoDBSessionStore.release, uses(MINE).every, RUNNING_OF_ANY),
    ),
    mutant(
        "a release of a lease that may have been billed is conditional",
        Edit(DynamoDBSessionStore.release, calls(Table.put), unconditional),
    ),
    mutant(
        "a reply is returned after its commit",
        Edit(RunningTurn._commit, calls(TurnStore.commit), "turn"),
        quick=True,
    ),
)

IDEMPOTENCY = (
    mutant(
        "a key is looked for among the turns",
        Edit(_Taking._find_stored, comparisons(Field(Turn, "key")).every, "False"),
        quick=True,
    ),
    mutant(
        "older keys are looked for",
        Edit(older_keys.numbers_to_check, calls(bytes.startswith), "False"),
        quick=True,
    ),
    mutant(
        "a turn that an older key names is looked up before it is believed",
        Edit(_Taking._find_stored, comparisons(Field(Turn, "key")).second, "True"),
        harmless="six bytes of a keyed hash collide once in 4 trillion keys; the unit tests make them collide",
    ),
    mutant(
        "another body under a key is refused",
        Edit(_Taking._require_same_body, comparisons(Field(Turn, "fingerprint")), "False"),
        quick=True,
    ),
    mutant(
        "attempts are counted",
        Edit(_Taking._next_lease, calls(dict.pop), "0"),
    ),
    mutant(
        "attempts stay counted when another key takes the slot over",
        Edit(older_keys.attempts, uses(Field(Lease, "attempt_counts")).first, 'b""'),
        quick=True,
    ),
    mutant(
        "attempts stay counted when another key gets the turn",
        Edit(turn_of, keyword("attempt_counts"), 'b""'),
        quick=True,
    ),
    mutant(
        "attempts are capped",
        Edit(_Taking._next_lease, conditions(ATTEMPTS), "False"),
    ),
    mutant(
        "a lease stays when its call may have been billed",
        Edit(Lease.after_release, conditions(Local("billed")), "False"),
        Edit(Lease.after_release, choices(Field(Lease, "attempt")), "None"),
    ),
)

MUTANTS = LEASES + COMMITS + IDEMPOTENCY

"""Mutants of the owners' keys: the key under which content may begin, and the reach of an erasure."""

from __future__ import annotations

from tests.promises.mutants.code_patterns import calls, comparisons, uses
from tests.promises.mutants.mutant import mutant
from tests.promises.mutants.patching import Edit, unconditional
from turnlog.adapters.dynamodb import copies, deletion, fork, items, move
from turnlog.adapters.dynamodb.data_keys import Keys, OwnerKeys
from turnlog.adapters.dynamodb.store import DynamoDBSessionStore
from turnlog.adapters.dynamodb.table import EMPTY, Table

MUTANTS = (
    mutant(
        "a fork takes its name under a key that is active",
        Edit(fork._reserve_id, calls(Keys.still_active), "()"),
        Edit(OwnerKeys.was_erased, comparisons("ConditionalCheckFailed"), "False"),
    ),
    mutant(
        "a move takes its name under a key that is active",
        Edit(move._copy_turns, calls(Keys.still_active), "()"),
    ),
    mutant(
        "an erasure takes the first slot of a session that is not there yet",
        Edit(deletion._block_listed, calls(Table.put, EMPTY), "table.delete(index_key)"),
        Edit(deletion._block_listed, calls(deletion._block).second, "None"),
    ),
    mutant(
        "a creation checks that its key is active",
        Edit(DynamoDBSessionStore.create, calls(Keys.still_active), "()"),
    ),
    mutant(
        "a move checks that the key of its new owner is active",
        Edit(move._commit, calls(Keys.still_active), "()"),
    ),
    mutant(
        "a fork checks that its key is active",
        Edit(fork.fork_session, calls(Keys.still_active), "()"),
    ),
    mutant(
        "an erasure destroys the keys",
        Edit(DynamoDBSessionStore.erase, calls(Keys.begin_erasure), "None"),
    ),
    mutant(
        "a key is put only where there is none",
        Edit(OwnerKeys._make, calls(Table.put), unconditional),
    ),
    mutant(
        "one's own key is recognised when the answer to its put was lost",
        Edit(OwnerKeys._make, comparisons("key"), "False"),
        harmless="it is read again, and unwrapped: a call is lost",
    ),
    mutant(
        "a copy under another key is none",
        Edit(copies._is_copy, uses("v"), '"st"'),
        Edit(copies._is_copy, uses("kid"), '"st"'),
        harmless="an erasure takes the copies too, and no run has the 90 days after which a key gives way",
    ),
    mutant(
        "a key that was erased elsewhere is forgotten when that shows",
        Edit(OwnerKeys.was_erased, calls(OwnerKeys._drop), "None"),
    ),
    mutant(
        "content decrypts only where it was put",
        Edit(items.associated_data, uses("sk"), '"pk"'),
        harmless="nobody here moves stored items; the contract tests do",
    ),
)

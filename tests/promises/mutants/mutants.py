"""The rules that carry the protocol's safety, each taken out in turn: the suite must notice, or say why it need not.

`without` says what is missing. Where a rule turned out to be carried by others, `harmless` says by which.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.promises.mutants.patching import Edit

_STORE = "adapters.dynamodb.store:DynamoDBSessionStore"
_MOVING = "adapters.dynamodb.transfer"
_ENDING = "adapters.dynamodb.deletion"
_SWEEPING = "adapters.dynamodb.expiry"
_ALLOWANCES = "adapters.dynamodb.quotas"
_KEYS = "adapters.dynamodb.keys:OwnerKeys"
_TAKING = "usecases.take_turn:_Taking"

# Conditions with the same placeholders as those that they stand in for.
_ANY_OF_TWO = '"attribute_exists(pk) OR attribute_not_exists(pk) OR st = :running OR tok = :token"'
_ANY_OF_THREE = '"attribute_exists(pk) OR attribute_not_exists(pk) OR st = :running OR tok = :token OR til < :now"'
_RUNNING = '"st = :running AND (tok = :token OR tok <> :token)"'
_LAPSED_OF_ANY = '"st = :running AND til < :now AND (tok = :token OR tok <> :token)"'
_LAPSED_OR_EMPTY = '"attribute_not_exists(pk) OR (st = :running AND tok = :token AND til < :now)"'
_SEEN = '"st = :running AND tok = :token AND (til < :now OR til >= :now)"'
_NEVER = '"st = :token AND tok = :running AND til < :now"'


@dataclass(frozen=True, slots=True)
class Mutant:
    """`quick` if a few random runs notice it, so that `make test` can do it."""

    without: str
    edits: tuple[Edit, ...]
    harmless: str = ""
    quick: bool = False


def _mutant(without: str, *edits: tuple[str, str, str], harmless: str = "", quick: bool = False) -> Mutant:
    return Mutant(without, tuple(Edit(*edit) for edit in edits), harmless, quick)


CLAIMING = (
    _mutant(
        "a lease is conditional",
        (f"{_STORE}.acquire", "(LAPSED, values(over.token, lease.at_ms)) if over else (EMPTY, None)", "(None, None)"),
        quick=True,
    ),
    _mutant(
        "a lease of an empty slot is conditional",
        (f"{_STORE}.acquire", "(EMPTY, None)", "(None, None)"),
        quick=True,
    ),
    _mutant(
        "a lease that has not run out is respected",
        (f"{_STORE}.acquire", "LAPSED", _SEEN),
        ("domain.sessions:SessionView.running_at", "self.running.lease_expires_ms > now_ms", "False"),
        quick=True,
    ),
    _mutant(
        "the condition of a takeover names the lease",
        (f"{_STORE}.acquire", "LAPSED", _SEEN),
        harmless="the reader has looked at the lease, and the token says that the lease is still the one it looked at",
    ),
    _mutant(
        "a reader looks at the lease before it takes the slot",
        ("domain.sessions:SessionView.running_at", "self.running.lease_expires_ms > now_ms", "False"),
        harmless="the condition of the takeover names the lease",
    ),
    _mutant(
        "a lapsed lease can be taken over",
        (f"{_STORE}.acquire", "LAPSED", _NEVER),
    ),
    _mutant(
        "a takeover is compare-and-set on the lease that was seen",
        (f"{_STORE}.acquire", "LAPSED", _LAPSED_OF_ANY),
    ),
    _mutant(
        "a takeover needs the lease that was seen to be there",
        (f"{_STORE}.acquire", "LAPSED", _LAPSED_OR_EMPTY),
        harmless="an empty slot is anybody's, and that of an ended session holds a tombstone until no lease can live",
    ),
    _mutant(
        "a lease that another one won is looked at",
        (f"{_TAKING}.take", "isinstance(found, Lease) and found.token == self.token", "isinstance(found, Lease)"),
        quick=True,
    ),
    _mutant(
        "one's own lease is recognised when its answer was lost",
        (f"{_TAKING}.take", "found.token == self.token", "found is lease"),
        harmless="the lease is taken for somebody else's and lapses: a lease is lost, and no data",
    ),
    _mutant(
        "a running lease counts as use",
        ("domain.sessions:SessionView.active_ms", "self.running.at_ms if self.running else", ""),
    ),
    _mutant(
        "a lease of unknown fate is given back",
        (f"{_TAKING}._place", "self.store.release", "(lambda *_, **__: None)"),
        harmless="it lapses: a lease is lost, and no data",
    ),
)

COMMITTING = (
    _mutant(
        "a commit is conditional",
        (f"{_STORE}.commit", "put(first, MINE, mine)", "put(first)"),
        quick=True,
    ),
    _mutant(
        "a commit in a transaction is conditional",
        (f"{_STORE}.commit", "put_action(first, MINE, mine)", "put_action(first)"),
        quick=True,
    ),
    _mutant(
        "a commit is conditional on its own token",
        (f"{_STORE}.commit", "MINE", _RUNNING),
        quick=True,
    ),
    _mutant(
        "a commit that found another turn is refused",
        (f"{_TAKING}._answer", "found.key == self.request.key", "True"),
    ),
    _mutant(
        "one's own turn is recognised when the answer to its commit was lost",
        (f"{_TAKING}._answer", "found.key == self.request.key", "found is turn"),
        harmless="the caller is told to ask again, and then gets the stored turn",
    ),
    _mutant(
        "a release is conditional",
        (f"{_STORE}.release", "delete(slot, MINE, mine)", "delete(slot)"),
    ),
    _mutant(
        "a release in a transaction is conditional",
        (f"{_STORE}.release", "delete_action(slot, MINE, mine)", f"delete_action(slot, {_ANY_OF_TWO}, mine)"),
    ),
    _mutant(
        "a release gives back its own lease alone",
        (f"{_STORE}.release", "MINE", _RUNNING),
    ),
    _mutant(
        "a release of a lease that may have been billed is conditional",
        (f"{_STORE}.release", "put(item, MINE, mine)", "put(item)"),
    ),
    _mutant(
        "a reply is returned after its commit",
        (
            f"{_TAKING}._answer",
            "found = self.store.commit(view.session, turn, settlement(lease.charges, turn.reply, turn.cost_usd))",
            "found = turn",
        ),
        quick=True,
    ),
)

KEYS = (
    _mutant(
        "a key is looked for among the turns",
        (f"{_TAKING}._stored", "turn.key == self.request.key", "False"),
        quick=True,
    ),
    _mutant(
        "older keys are looked for",
        ("usecases.take_turn:_places", "turn.older_keys[back * KEY_HASH :].startswith(wanted)", "False"),
        quick=True,
    ),
    _mutant(
        "a place that an older key names is looked up before it is believed",
        (f"{_TAKING}._stored", "if turn.key == self.request.key:\n                return turn", "return turn"),
        harmless="six bytes of a keyed hash collide once in 4 trillion keys; the unit tests make them collide",
    ),
    _mutant(
        "another body under a key is refused",
        (f"{_TAKING}._require_same_body", "held.fingerprint != self.request.fingerprint", "False"),
        quick=True,
    ),
    _mutant(
        "attempts are counted",
        (f"{_TAKING}._next_lease", "attempts.pop(key_hash(request.key), 0) + 1", "1"),
    ),
    _mutant(
        "attempts stay counted when another key takes the slot over",
        (
            "usecases.take_turn:_attempts",
            "view.running.attempt_counts if view.running else",
            'b"" if view.running else',
        ),
        quick=True,
    ),
    _mutant(
        "attempts stay counted when another key gets the turn",
        (f"{_TAKING}._turn", "attempt_counts=lease.attempt_counts", 'attempt_counts=b""'),
        quick=True,
    ),
    _mutant(
        "attempts are capped",
        (f"{_TAKING}._next_lease", "if attempt > ATTEMPTS:", "if False:"),
    ),
    _mutant(
        "a lease stays when its call may have been billed",
        ("domain.turns:Lease.after_release", "if billed:", "if False:"),
        ("domain.turns:Lease.after_release", "left if left.attempt or left.attempt_counts else None", "None"),
    ),
)

READING = (
    _mutant(
        "a page has room for the header, the meta item and a lease",
        ("adapters.dynamodb.reads:page_of", "newest + 3", "newest"),
        harmless="the store reads on until it has all turns: it costs a call, and no turn",
    ),
    _mutant(
        "a lease does not count as one of the newest turns",
        ("adapters.dynamodb.reads:has_all", "newest + running", "newest"),
        ("adapters.dynamodb.reads:page_of", "newest + 3", "newest + 2"),
        quick=True,
    ),
    _mutant(
        "pages are read until all turns are there",
        ("adapters.dynamodb.table:Table.query", 'if "LastEvaluatedKey" not in page or until(items):', "if True:"),
        quick=True,
    ),
    _mutant(
        "turns have no gap",
        (
            "adapters.dynamodb.reads:log_of",
            "if [turn.number for turn in turns] != list(range(first, count + 1))",
            "if False",
        ),
    ),
    _mutant(
        "slots that seem to be damaged are looked at again",
        ("adapters.dynamodb.reads:slots_between", "range(LOOKS - 1)", "range(0)"),
    ),
    _mutant(
        "reads are strongly consistent",
        ("adapters.dynamodb.table:Table.query", '"ConsistentRead": consistent', '"ConsistentRead": False'),
        quick=True,
    ),
    _mutant(
        "nothing is refused on the strength of an old view",
        (f"{_TAKING}._read_cached", "except TurnlogError:\n        return None", "except TurnlogError:\n        raise"),
        quick=True,
    ),
    _mutant(
        "nothing is replayed on the strength of an old view",
        (f"{_TAKING}._read_cached", "return None if isinstance(look, TakenTurn) else look", "return look"),
    ),
)

ENDING = (
    _mutant(
        "an expired session is gone though it is still there",
        ("domain.sessions:SessionView.alive_at", "now_ms < self.idle_expires_ms", "True"),
        quick=True,
    ),
    _mutant(
        "TTL lies after the absolute end",
        (
            "domain.sessions:Session.ttl_s",
            "self.expires_ms // 1000) + int(GRACE.total_seconds())",
            "(self.created_ms + self.idle_ms) // 1000)",
        ),
    ),
    _mutant(
        "TTL lies an hour after the end",
        ("domain.sessions:Session.ttl_s", " + int(GRACE.total_seconds())", ""),
        harmless="nobody sees a session after its end; the grace is for clocks that are further apart than those here",
    ),
    _mutant(
        "a delete blanks every slot",
        (f"{_ENDING}:_empty", 'blank(table, items, below=top["sk"]["S"])', "pass"),
        quick=True,
    ),
    _mutant(
        "a delete removes the parts of large turns",
        (f"{_ENDING}:blank", "_delete_parts(table, items)", "pass"),
        quick=True,
    ),
    _mutant(
        "a blanked slot keeps a tombstone",
        (
            f"{_ENDING}:blank",
            'put_all([tombstone_of(item) for item in slots if item["st"]["S"] != "ended"])',
            'delete_all([key(item["pk"]["S"], item["sk"]["S"]) for item in slots])',
        ),
    ),
    _mutant(
        "a delete puts a tombstone after the last turn",
        (f"{_ENDING}:_stopped", "refused = table.put(ended, EMPTY)", "refused = None"),
        quick=True,
    ),
    _mutant(
        "a delete's tombstone is conditional",
        (f"{_ENDING}:_stopped", "table.put(ended, EMPTY)", "table.put(ended)"),
        (f"{_ENDING}:_stopped", 'table.put(ended, MINE, values(top["tok"]["S"]))', "table.put(ended)"),
    ),
    _mutant(
        "a delete's tombstone over a lease is conditional",
        (f"{_ENDING}:_stopped", 'table.put(ended, MINE, values(top["tok"]["S"]))', "table.put(ended)"),
    ),
    _mutant(
        "a delete's tombstone over a lease is for the lease that was seen",
        (f"{_ENDING}:_stopped", "MINE", _RUNNING),
    ),
    _mutant(
        "an end asks again what there is when nothing can come any more",
        (f"{_ENDING}:end", "if top and top in items:", "if top is not None:"),
    ),
    _mutant(
        "a delete looks whether a move was faster",
        (f"{_STORE}.delete", "alive and not (top and has_left(top))", "alive"),
    ),
    _mutant(
        "a delete removes the header last",
        (
            f"{_ENDING}:_empty",
            'blank(table, items, below=top["sk"]["S"])\n',
            'table.delete(key(pk, HEADER))\n    blank(table, items, below=top["sk"]["S"])\n',
        ),
    ),
    _mutant(
        "a delete undoes the move that it stops",
        (f"{_ENDING}:_empty", 'if "und" in top:', "if False:"),
    ),
    _mutant(
        "what a batch leaves over is written again",
        ("adapters.dynamodb.table:Table._write_all", "requests = unprocessed + rest", "requests = rest"),
    ),
    _mutant(
        "a sweep looks again before it ends a session",
        (f"{_SWEEPING}:_look", "only_if=lambda found: _alive_until(found) + _MARGIN_MS <= now_ms", ""),
        harmless="what was dead for so long comes to life only by a process that stood still, and its turn is stopped",
    ),
    _mutant(
        "a sweep leaves alone what is alive",
        (f"{_SWEEPING}:_look", "alive_until_ms + _MARGIN_MS > now_ms", "False"),
        (f"{_SWEEPING}:_look", "only_if=lambda found: _alive_until(found) + _MARGIN_MS <= now_ms", ""),
    ),
    _mutant(
        "a sweep voids the lease that guards a half-made move",
        (f"{_SWEEPING}:_look", "not _is_abandoned(table, entry, items, now_ms)", "False"),
    ),
    _mutant(
        "what a sweep does not end goes back onto its list",
        (f"{_SWEEPING}:_put_back", "table.put(", "(lambda *_: None)("),
    ),
)

MOVING = (
    _mutant(
        "the flip of a move is conditional on its lease",
        (f"{_MOVING}:_flip", 'put_action(marker, MINE, values(marker["tok"]["S"]))', "put_action(marker)"),
    ),
    _mutant(
        "the flip of a move is conditional on its own token",
        (
            f"{_MOVING}:_flip",
            'put_action(marker, MINE, values(marker["tok"]["S"]))',
            f'put_action(marker, {_RUNNING}, values(marker["tok"]["S"]))',
        ),
    ),
    _mutant(
        "the new header of a move is conditional",
        (f"{_MOVING}:_flip", "put_action(header_item(new), EMPTY)", "put_action(header_item(new))"),
        harmless="only the holder of the old session's lease can flip, and the place belongs to that old session",
    ),
    _mutant(
        "the copies of a move are conditional",
        (f"{_MOVING}:_copy", "table.put(first, EMPTY)", "table.put(first)"),
    ),
    _mutant(
        "a move leases the slot conditionally",
        (f"{_MOVING}:_leased", "(LAPSED, values(over.token, asked.at_ms)) if over else (EMPTY, None)", "(None, None)"),
    ),
    _mutant(
        "a move waits for a running turn",
        (f"{_MOVING}:move", "view.running.lease_expires_ms > asked.at_ms", "False"),
        (f"{_MOVING}:_leased", "LAPSED", _SEEN),
        quick=True,
    ),
    _mutant(
        "a lease after an unfinished move undoes it",
        (f"{_STORE}.acquire", "if over and (over.moving_to or over.undo):", "if False:"),
    ),
    _mutant(
        "a lease that undoes a move notes so until it has",
        (f"{_MOVING}:fence", "lease_item(session, mine)", 'lease_item(session, replace(mine, undo=""))'),
    ),
    _mutant(
        "a move fences the one before it off",
        (f"{_MOVING}:fence", 'over.token + "!"', "over.token"),
    ),
    _mutant(
        "a move undoes the one before it",
        (f"{_MOVING}:fence", "undo_move(", "(lambda *_: None)("),
    ),
    _mutant(
        "a move that was undone stops",
        (f"{_MOVING}:_copy", "raise LeaseLost", "pass"),
    ),
    _mutant(
        "a move that was refused takes its copies back",
        (f"{_MOVING}:_carry_over", "if fence(table, old, lease, asked.at_ms):", "if False:"),
        harmless="its lease goes on to name the place: whoever takes the slot next takes the copies back",
    ),
    _mutant(
        "a mover that was overtaken leaves the copies to whoever overtook it",
        (
            f"{_MOVING}:_carry_over",
            "if slot is not None:",
            'if slot is not None:\n        undo_move(table, marker["dst"]["S"], view.count, {"N": str(old.ttl_s)})',
        ),
    ),
    _mutant(
        "a move takes along the title that was given last",
        (f"{_MOVING}:_flip", "TITLED", '"title = :title OR title <> :title"'),
        harmless="nobody here renames; the contract tests do",
    ),
    _mutant(
        "a session that lives where a move was undone is left alone",
        (f"{_ENDING}:undo_move", "if has_session(table, pk):", "if False:"),
        harmless="a move has a place of its own here; the contract tests move to one that is taken",
    ),
    _mutant(
        "a move clears out what it leaves",
        (f"{_MOVING}:_clear_out", 'blank(table, outline(table, pk), below=marker["sk"]["S"])', "pass"),
        quick=True,
    ),
    _mutant(
        "a repeated move knows its key",
        (f"{_MOVING}:_look", 'if top and "mk" in top:', "if False:"),
        quick=True,
    ),
)

MAKING = (
    _mutant(
        "a creation is conditional",
        (f"{_STORE}.create", "put_action(header_item(session), EMPTY)", "put_action(header_item(session))"),
    ),
    _mutant(
        "a creation looks for what is there",
        (f"{_STORE}.create", "if there:", "if False:"),
        harmless="its transaction finds it too; the look spares four writes",
    ),
    _mutant(
        "a fork needs all turns that it copies",
        (f"{_MOVING}:fork", "if [turn.number for turn in turns] != list(range(1, number + 1)):", "if False:"),
    ),
    _mutant(
        "a fork forgets the keys",
        (f"{_MOVING}:fork", "slot.forked()", "slot"),
    ),
    _mutant(
        "a fork is conditional",
        (f"{_MOVING}:fork", "put_action(header_item(child), EMPTY)", "put_action(header_item(child))"),
        harmless="the id is new, so only a repeat of the same call writes there, and never after the session has ended",
    ),
    _mutant(
        "a fork checks that its copies are there",
        (f"{_MOVING}:fork", "DONE, {", '"st = :done OR st <> :done OR attribute_not_exists(pk)", {'),
        harmless="a fork lives for a minute, and no copy is swept before 45 minutes are over",
    ),
)

ALLOWANCES = (
    _mutant(
        "a charge is conditional on its limit",
        (f"{_ALLOWANCES}:charge_action", "if limited:", "if False:"),
        quick=True,
    ),
    _mutant(
        "a charge and what it is for are one transaction",
        (
            f"{_ALLOWANCES}:charged",
            "reasons = table.transact([*actions, *(charges if taken else map(_room_check, charges))])",
            "reasons = table.transact(charges if taken else list(map(_room_check, charges))) if charges else None\n"
            "    reasons = [{} for _ in actions] + reasons if reasons else table.transact(actions)",
        ),
    ),
    _mutant(
        "a move is charged in the transaction that makes it",
        (f"{_MOVING}:_flip", "[*made, *charge_actions(usage, asked.quota, limited=True)]", "made"),
    ),
    _mutant(
        "a move is charged once",
        (f"{_MOVING}:_leased", ", taken=False", ""),
    ),
    _mutant(
        "a move that does not fit is refused before it copies",
        (f"{_MOVING}:_leased", "if asked.quota:", "if False:"),
        harmless="the transaction that makes it charges for it: it is refused then, after the copies were paid",
    ),
    _mutant(
        "a refund and its release are one transaction",
        (
            f"{_STORE}.release",
            "self._sessions.transact([self._sessions.delete_action(slot, MINE, mine), *refunds])",
            "self._sessions.transact(refunds), self._sessions.delete(slot, MINE, mine)",
        ),
    ),
    _mutant(
        "a settlement and its commit are one transaction",
        (
            f"{_STORE}.commit",
            "reasons = self._sessions.transact([*actions, *settled])",
            "reasons = self._sessions.transact(actions)\n        [self._sessions.transact([each]) for each in settled]",
        ),
        harmless="a reservation is the most that a turn can use: without a settlement too much is charged, never less",
    ),
    _mutant(
        "a transaction that is sent again is the same one",
        ("adapters.dynamodb.table:Table.transact", ", ClientRequestToken=token", ""),
        harmless="each begins with a condition that no longer holds after it, and that failure is looked at",
    ),
)

SEALING = (
    _mutant(
        "a fork takes its name under a key that is active",
        (f"{_MOVING}:_take_name", ", *keys.still_active(child)]", "]"),
        ("adapters.dynamodb.keys:OwnerKeys.was_erased", 'reasons[-1].get("Code") != "ConditionalCheckFailed"', "False"),
    ),
    _mutant(
        "a move takes its name under a key that is active",
        (f"{_MOVING}:_copy_all", ", *keys.still_active(new)]", "]"),
    ),
    _mutant(
        "an erasure takes the first slot of a place that is still empty",
        (
            f"{_ENDING}:end_all",
            'table.put(tombstone(pk, slot_sk(1), item["ttl"]), EMPTY)',
            "table.delete(index)\n            continue",
        ),
    ),
    _mutant(
        "a creation checks that its key is active",
        (f"{_STORE}.create", "*self._keys.still_active(session),", ""),
    ),
    _mutant(
        "a move checks that the key of its new owner is active",
        (f"{_MOVING}:_flip", "*keys.still_active(new),", ""),
    ),
    _mutant(
        "a fork checks that its key is active",
        (f"{_MOVING}:fork", "*keys.still_active(child),", ""),
    ),
    _mutant(
        "an erasure destroys the keys",
        (f"{_STORE}.erase", "self._keys.begin_erasure(owner)", "pass"),
    ),
    _mutant(
        "a key is put only where there is none",
        (f"{_KEYS}._made", "self._table.put(item, EMPTY)", "self._table.put(item)"),
    ),
    _mutant(
        "one's own key is recognised when the answer to its put was lost",
        (f"{_KEYS}._made", 'found is None or found.get("key") == item["key"]', "found is None"),
        harmless="it is read again, and unwrapped: a call is lost",
    ),
    _mutant(
        "a copy under another key is none",
        (f"{_MOVING}:_is_copy", '("st", "tok", "v", "kid")', '("st", "tok")'),
        harmless="an erasure takes the copies too, and no run has the 90 days after which a key gives way",
    ),
    _mutant(
        "a key that was erased elsewhere is forgotten when that shows",
        (f"{_KEYS}.was_erased", "self._forget(owner_hash(session.owner))", "pass"),
    ),
    _mutant(
        "content is opened for its place",
        ("adapters.dynamodb.items:_place", 'item["sk"]["S"]', '""'),
        harmless="nobody here moves what is stored; the contract tests do",
    ),
)

MUTANTS = CLAIMING + COMMITTING + KEYS + READING + ENDING + MOVING + MAKING + ALLOWANCES + SEALING

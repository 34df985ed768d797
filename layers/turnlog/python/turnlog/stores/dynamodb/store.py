"""SessionStore on DynamoDB: one item is one turn, and a turn costs one Query and two conditional Puts.

Table: pk (S), sk (S), TTL on `ttl`, no index. Needs dynamodb:Query, GetItem, PutItem, DeleteItem and BatchWriteItem.
A session is one partition, named by a hash of owner and id, so that another owner's session is a look-up miss:

    sk "000000001".. a slot: a claim ("running", no content), a turn ("done") or a tombstone ("ended")
    sk "meta"        the title, the one thing that may change
    sk "session"     the header; without it there is no session, whatever else is left

and one item of the owner's partition that names the session. Times are epoch milliseconds, but `ttl` (seconds).
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NotConnected

from turnlog.errors import SessionCorrupt, SessionNotFound, StoreUnavailable
from turnlog.messages import Message, Reply, Usage, to_json
from turnlog.sessions import Claim, Ended, Log, Session, SessionSettings, Slot, Totals, Turn, owner_hash

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]

VERSION = 1
_HEADER, _META = "session", "meta"
_BATCH = 25  # the most that BatchWriteItem takes
_DELETE_ROUNDS = 10
_TRIES = 4
_TRANSIENT = {
    "InternalServerError",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ThrottlingException",
    "TransactionConflictException",
    "TransactionInProgressException",
}

# Conditions, each named for when it is true.
_EMPTY = "attribute_not_exists(pk)"  # nothing holds the slot, or the item does not exist yet
_MINE = "st = :running AND tok = :token"  # the slot still holds the claim with this token
_LAPSED = "st = :running AND tok = :token AND til < :now"  # ... and its lease is over


class DynamoDBSessionStore:
    """Sessions in the table `table`.

    Give it a client without retries of its own (`total_max_attempts=1`) and with short timeouts: it tries each call up
    to 4 times with jitter, after throttling, a 5xx, a lost connection or a conflict between transactions. A turn, the
    message and the reply compressed together, must stay below 400 KB, the size of an item.
    """

    def __init__(self, client: DynamoDBClient, table: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._table = table
        self._sleep = sleep

    def create(self, session: Session, title: str) -> None:
        pk = partition(session.owner, session.id)
        common = {"v": _n(VERSION), "ttl": _n(session.ttl_s)}
        index = _index_key(session.owner, pk) | common | {"sid": _s(session.id), "created": _n(session.created_ms)}
        self._call(self._client.put_item, TableName=self._table, Item=index)
        header = _key(pk, _HEADER) | common | _header(session)
        meta = _key(pk, _META) | common | {"title": _s(title)}
        puts = [{"TableName": self._table, "Item": header, "ConditionExpression": _EMPTY}]
        puts.append({"TableName": self._table, "Item": meta})
        self._call(self._client.transact_write_items, TransactItems=[{"Put": put} for put in puts])

    def read(self, owner: str, session_id: str, now_ms: int, newest: int) -> Log:
        pk = partition(owner, session_id)
        # Beside the turns one page has room for the header, the meta item and a claim.
        items = self._query(pk, newest_first=True, limit=newest + 3, enough=newest + 1)
        if not items or items[0]["sk"]["S"] != _HEADER:
            raise SessionNotFound
        session = _session(owner, session_id, items[0])
        title = next((item["title"]["S"] for item in items if item["sk"]["S"] == _META), "")
        slots = [_slot(item) for item in items if item["sk"]["S"].isdigit()]
        running = slots.pop(0) if slots and isinstance(slots[0], Claim) else None
        if slots and isinstance(slots[0], Ended):
            raise SessionNotFound
        count = slots[0].number if slots else 0
        turns = [slot for slot in slots[:newest] if isinstance(slot, Turn)]
        expected = list(range(count, max(0, count - newest), -1))
        if [turn.number for turn in turns] != expected or (running and running.number != count + 1):
            raise SessionCorrupt
        log = Log(session, title, count, tuple(reversed(turns)), running if isinstance(running, Claim) else None)
        if not log.alive_at(now_ms):
            raise SessionNotFound
        return log

    def turns(self, session: Session, first: int, last: int) -> list[Turn]:
        pk = partition(session.owner, session.id)
        items = self._query(pk, newest_first=False, between=(_sk(first), _sk(last)))
        return [slot for slot in map(_slot, items) if isinstance(slot, Turn)]

    def claim(self, session: Session, claim: Claim, over: Claim | None) -> Slot | None:
        if over is None:
            return self._put_slot(session, claim, _EMPTY)
        return self._put_slot(session, claim, _LAPSED, token=over.token, now=claim.at_ms)

    def release(self, session: Session, claim: Claim, billed: bool, now_ms: int) -> None:
        if billed:
            self._put_slot(session, replace(claim, until_ms=now_ms - 1), _MINE, token=claim.token)
            return
        key = _key(partition(session.owner, session.id), _sk(claim.number))
        self._conditional(self._client.delete_item, _MINE, Key=key, values=_values(token=claim.token))

    def commit(self, session: Session, turn: Turn) -> Slot | None:
        return self._put_slot(session, turn, _MINE, token=turn.token)

    def delete(self, owner: str, session_id: str, now_ms: int) -> bool:
        pk = partition(owner, session_id)
        try:
            self.read(owner, session_id, now_ms, newest=1)
            alive = True
        except SessionNotFound:
            alive = False
        except SessionCorrupt:
            alive = True
        for _ in range(_DELETE_ROUNDS):
            items = self._query(pk, newest_first=True, only="pk, sk, st, tok, #t")
            if self._end(items, pk):
                self._blank(item for item in items if item["sk"]["S"].isdigit() and item["st"]["S"] != "ended")
                for key in (_key(pk, _META), _key(pk, _HEADER), _index_key(owner, pk)):
                    self._call(self._client.delete_item, TableName=self._table, Key=key)
                return alive
        raise StoreUnavailable

    def _end(self, items: list[Item], pk: str) -> bool:
        """Puts a tombstone where the next turn would go. False when a turn got in first; true if there is nothing."""
        if not items:
            return True
        slots = [item for item in items if item["sk"]["S"].isdigit()]
        top = slots[0] if slots else None
        state = top["st"]["S"] if top else None
        if state == "ended":
            return True
        number = int(top["sk"]["S"]) if top else 0
        running = top if state == "running" else None
        tombstone = _key(pk, _sk(number if running else number + 1)) | {"st": _s("ended"), "ttl": items[0]["ttl"]}
        condition = _MINE if running else _EMPTY
        values = _values(token=running["tok"]["S"]) if running else None
        return self._conditional(self._client.put_item, condition, Item=tombstone, values=values) is None

    def _blank(self, items: Iterable[Item]) -> None:
        puts = [
            {"PutRequest": {"Item": {"pk": item["pk"], "sk": item["sk"], "st": _s("ended"), "ttl": item["ttl"]}}}
            for item in items
        ]
        while puts:
            answer = self._call(self._client.batch_write_item, RequestItems={self._table: puts[:_BATCH]})
            unprocessed = answer.get("UnprocessedItems", {}).get(self._table, [])
            puts = unprocessed + puts[_BATCH:]

    def _put_slot(
        self, session: Session, slot: Claim | Turn, condition: str, *, token: str = "", now: int | None = None
    ) -> Slot | None:
        """Puts the slot under the condition and returns what is there afterwards; None when it is empty."""
        item = _key(partition(session.owner, session.id), _sk(slot.number)) | {"ttl": _n(session.ttl_s)}
        item |= _claim_attributes(slot) if isinstance(slot, Claim) else _turn_attributes(slot)
        values = None if condition == _EMPTY else _values(token=token, now=now)
        found = self._conditional(self._client.put_item, condition, Item=item, values=values)
        if found is None:
            return slot
        return _slot(found) if found else None

    def _conditional(
        self, operation: Callable[..., Any], condition: str, *, values: Item | None, **arguments: Any
    ) -> Item | None:
        """None when the condition held; else the item that failed it, `{}` when there is none."""
        if values:
            arguments["ExpressionAttributeValues"] = values
        try:
            self._call(
                operation,
                TableName=self._table,
                ConditionExpression=condition,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **arguments,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            found: Item = error.response.get("Item", {})  # type: ignore[assignment] # the stubs do not know it
            return found
        return None

    def _query(
        self,
        pk: str,
        *,
        newest_first: bool,
        limit: int | None = None,
        enough: int | None = None,
        between: tuple[str, str] | None = None,
        only: str | None = None,
    ) -> list[Item]:
        """Items of a partition, strongly consistent, page by page to the end or until there are `enough` slots."""
        values = {":pk": _s(pk)}
        arguments: Item = {"TableName": self._table, "ConsistentRead": True, "ScanIndexForward": not newest_first}
        arguments["KeyConditionExpression"] = "pk = :pk"
        if between:
            arguments["KeyConditionExpression"] += " AND sk BETWEEN :first AND :last"
            values |= {":first": _s(between[0]), ":last": _s(between[1])}
        if only:
            arguments |= {"ProjectionExpression": only, "ExpressionAttributeNames": {"#t": "ttl"}}
        if limit:
            arguments["Limit"] = limit
        items: list[Item] = []
        while True:
            page = self._call(self._client.query, ExpressionAttributeValues=values, **arguments)
            items += page["Items"]
            slots = sum(item["sk"]["S"].isdigit() for item in items)
            if "LastEvaluatedKey" not in page or (enough and slots >= enough):
                return items
            arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _call(self, operation: Callable[..., Any], **arguments: Any) -> Any:
        """The answer. Raises StoreUnavailable after the last try, ClientError when a condition failed."""
        cause: Exception | None = None
        for tried in range(_TRIES):
            if tried:
                self._sleep(random.uniform(0.5, 1.5) * 0.05 * 4**tried)  # noqa: S311 (jitter)
            try:
                return operation(**arguments)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code in ("ConditionalCheckFailedException", "ValidationException"):
                    raise
                if not _is_transient(error):
                    raise StoreUnavailable from error
                cause = error
            except (HTTPClientError, NotConnected) as error:
                cause = error
        raise StoreUnavailable from cause


def partition(owner: str, session_id: str) -> str:
    """The partition of one owner's session."""
    digest = hashlib.sha256(b"v1" + owner.encode() + b"\x00" + session_id.encode()).digest()
    return "S#" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _is_transient(error: ClientError) -> bool:
    code = error.response["Error"]["Code"]
    if code == "TransactionCanceledException":
        reasons = {reason.get("Code") for reason in error.response.get("CancellationReasons", [])}
        return bool(reasons & {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})
    return code in _TRANSIENT or error.response["ResponseMetadata"].get("HTTPStatusCode", 0) >= 500


def _s(text: str) -> Item:
    return {"S": text}


def _n(number: int | Decimal) -> Item:
    return {"N": f"{number:f}" if isinstance(number, Decimal) else str(number)}


def _key(pk: str, sk: str) -> Item:
    return {"pk": _s(pk), "sk": _s(sk)}


def _index_key(owner: str, pk: str) -> Item:
    return _key("U#" + owner_hash(owner), pk)


def _sk(number: int) -> str:
    return f"{number:09d}"


def _values(*, token: str, now: int | None = None) -> Item:
    values = {":running": _s("running"), ":token": _s(token)}
    return values if now is None else values | {":now": _n(now)}


def _header(session: Session) -> Item:
    settings = session.settings
    chosen = {"model": settings.model, "max_tokens": settings.max_tokens, "system": settings.system}
    return {
        "created": _n(session.created_ms),
        "dies": _n(session.dies_ms),
        "idle": _n(session.idle_ms),
        "cfg": _pack(to_json(chosen)),
    }


def _session(owner: str, session_id: str, item: Item) -> Session:
    with _readable():
        _expect_known_version(item)
        chosen = _unpack(item, "cfg")
        settings = SessionSettings(chosen["model"], chosen["max_tokens"], chosen["system"])
        created, dies, idle = (int(item[name]["N"]) for name in ("created", "dies", "idle"))
    return Session(owner, session_id, created, dies, idle, settings)


def _claim_attributes(claim: Claim) -> Item:
    return {
        "v": _n(VERSION),
        "st": _s("running"),
        "tok": _s(claim.token),
        "til": _n(claim.until_ms),
        "k": {"B": claim.key},
        "fp": {"B": claim.fingerprint},
        "ts": _n(claim.at_ms),
        "att": _n(claim.attempt),
    }


def _turn_attributes(turn: Turn) -> Item:
    reply = turn.reply
    body = (
        f'{{"message":{turn.message.content},"reply":{reply.content},"usage":{reply.usage.received},'
        f'"model":{to_json(reply.model)}}}'
    )
    item = {
        "v": _n(VERSION),
        "st": _s("done"),
        "tok": _s(turn.token),
        "k": {"B": turn.key},
        "fp": {"B": turn.fingerprint},
        "body": _pack(body),
        "fin": _s(reply.stop_reason),
        "ts": _n(turn.at_ms),
        "from": _n(turn.window_from),
        "rk": {"B": turn.older_keys},
        "tot": {"M": {"tokens": _n(turn.totals.tokens), "usd": _n(turn.totals.cost_usd)}},
    }
    return item if turn.cost_usd is None else item | {"usd": _n(turn.cost_usd)}


def _slot(item: Item) -> Slot:
    with _readable():
        number, state = int(item["sk"]["S"]), item["st"]["S"]
        if state == "ended":
            return Ended(number)
        _expect_known_version(item)
        token, key, fingerprint = item["tok"]["S"], bytes(item["k"]["B"]), bytes(item["fp"]["B"])
        at_ms = int(item["ts"]["N"])
        if state == "running":
            return Claim(number, token, int(item["til"]["N"]), key, fingerprint, at_ms, int(item["att"]["N"]))
        body = _unpack(item, "body")
        usage = Usage(to_json(body["usage"]))
        totals = item["tot"]["M"]
        return Turn(
            number=number,
            token=token,
            key=key,
            fingerprint=fingerprint,
            message=Message("user", to_json(body["message"])),
            reply=Reply(body["model"], to_json(body["reply"]), item["fin"]["S"], usage),
            cost_usd=Decimal(item["usd"]["N"]) if "usd" in item else None,
            totals=Totals(int(totals["tokens"]["N"]), Decimal(totals["usd"]["N"])),
            at_ms=at_ms,
            window_from=int(item["from"]["N"]),
            older_keys=bytes(item["rk"]["B"]),
        )


@contextmanager
def _readable() -> Iterator[None]:
    """Whatever an item lacks or has in another form means that it is damaged, and is never read as something less."""
    try:
        yield
    except (KeyError, ValueError, TypeError, zlib.error) as error:
        raise SessionCorrupt from error


def _expect_known_version(item: Item) -> None:
    if int(item["v"]["N"]) != VERSION:
        raise SessionCorrupt


def _pack(text: str) -> Item:
    """UTF-8 after a byte that says how: "z" deflated, which about halves a turn, or "j" as it is if that is shorter."""
    plain = text.encode()
    packed = zlib.compress(plain)
    return {"B": b"z" + packed if len(packed) < len(plain) else b"j" + plain}


def _unpack(item: Item, name: str) -> Any:
    stored = bytes(item[name]["B"])
    return json.loads(zlib.decompress(stored[1:]) if stored[:1] == b"z" else stored[1:])

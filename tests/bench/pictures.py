"""Turns with a picture of 3 MB each: their units in DynamoDB, their bytes, and the memory of the session function."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moto import mock_aws

from tests.bench.capacity import READ_DOLLARS, WRITE_DOLLARS, Meter
from tests.bench.deployment import Used, Worker, event, new_key
from tests.bench.moto_tables import KEYS, SESSIONS, client_of_tables
from tests.fakes import HashModel, HeldClock, new_session
from tests.media import image, png, text_block
from tests.wrapping import LocalWrapper
from turnlog.adapters.dynamodb import DynamoDBSessionStore, OwnerKeys
from turnlog.domain.messages import Message, to_json
from turnlog.usecases.turn_protocol import run_turn
from turnlog.usecases.turn_request import TurnPolicy, TurnRequest

PICTURE_BYTES = 3_000_000
Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PictureCost:
    """One such turn: its calls and units in DynamoDB, the bytes that it stores, and those that the model is sent."""

    turn: int
    calls: int
    read_units: int
    write_units: int
    stored_bytes: int
    sent_bytes: int


def message(number: int) -> list[Block]:
    """A new picture, which does not pack, and a text beside it."""
    noise = random.Random(number).randbytes(PICTURE_BYTES)
    return [image(png(2_000, 1_500, filling=noise)), text_block()]


def measure(turns: int = 25) -> list[PictureCost]:
    """The costs of a conversation of so many such turns, encrypted, without limits for its owner."""
    with mock_aws():
        client = client_of_tables()
        clock, meter, model = HeldClock(), Meter(), HashModel()
        store = DynamoDBSessionStore(client, SESSIONS, keys=OwnerKeys(client, KEYS, LocalWrapper(), clock))
        session = store.create(new_session(), "")
        meter.watch(client)
        costs = []
        for number in range(1, turns + 1):
            name = b"%d" % number
            asked = TurnRequest(session.owner, session.id, name, name, Message("user", to_json(message(number))))
            run_turn(asked, store=store, model=model, clock=clock, remaining_s=lambda: 60.0, policy=TurnPolicy())
            cost, sent = meter.take(), model.requests.pop().messages
            units = cost.read_units, cost.write_units
            costs.append(
                PictureCost(number, len(cost.calls), *units, cost.put_bytes, sum(len(each.content) for each in sent))
            )
        return costs


def memory(worker: Worker, turns: int = 25) -> list[Used]:
    """The peak of the session function's memory and its CPU, turn by turn, in its own process."""
    at = {"id": worker.answer(event("POST", "/sessions", {}))["session_id"]}
    return [
        worker.ask(event("POST", "/sessions/{id}/turns", {"message": message(number)}, at, key=new_key()))
        for number in range(1, turns + 1)
    ]


def table(costs: Sequence[PictureCost], used: Sequence[Used]) -> list[str]:
    """Returns the table of docs/benchmarks.md."""
    lines = [
        "| turn | calls | read units | write units | $ a turn | MB stored | MB sent | peak MB | CPU s |",
        "|---" * 9 + "|",
    ]
    for cost, each in zip(costs, used, strict=True):
        if cost.turn in (1, 2, 3, 4, 5, 10, len(costs)):
            dollars = (cost.read_units * READ_DOLLARS + cost.write_units * WRITE_DOLLARS) / 1_000_000
            units = f"{cost.calls} | {cost.read_units:,} | {cost.write_units:,} | {dollars:.4f}"
            megabytes = f"{cost.stored_bytes / 1e6:.1f} | {cost.sent_bytes / 1e6:.1f}"
            lines.append(f"| {cost.turn} | {units} | {megabytes} | {each.peak_mb:.0f} | {each.cpu_s:.2f} |")
    return lines

"""`make bench`: counts and ratios, as tables here and as JSON in .turnlog/bench.json."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from tests.bench import (
    cached_input,
    cold_start,
    conversation,
    many_sessions,
    memory,
    pictures,
    steps,
    streams,
    warm_turn,
    whole_turn,
)
from tests.bench.capacity import READ_DOLLARS, WRITE_DOLLARS
from tests.bench.conversation import TurnCost
from tests.bench.deployment import deployment

OUTPUT = Path(".turnlog/bench.json")


def main() -> None:
    costs = conversation.measure()
    stores = {
        "dynamodb": costs[-1],
        "hybrid, one environment": conversation.measure(caches=1)[-1],
        "hybrid, two environments in turn": conversation.measure(caches=2)[-1],
    }
    starts, footprints, many = cold_start.measure(), memory.measure(), many_sessions.measure()
    writes, inputs, shown = steps.measure(), cached_input.measure(), pictures.measure()
    streamed = streams.measure()
    with deployment() as made:
        warm = warm_turn.measure(made)
        with made.worker("session") as worker:
            drawn = pictures.memory(worker)
    print("A conversation of 50 turns of 2,000 characters, window 25, through the session function's handler:\n")
    print("turn  calls  round trips  read units  write units  model calls  item bytes  $ a million turns  CPU ms")
    for cost in costs:
        print(
            f"{cost.turn:4}  {cost.calls:5}  {cost.round_trips:11}  {cost.read_units:10}  {cost.write_units:11}  "
            f"{cost.model_calls:11}  {cost.item_bytes:10}  {dollars(cost):17.2f}  {cost.cpu_ms:6.1f}"
        )
    print("\nThe last of them, and the same with SESSION_STORE=hybrid:\n")
    print("store                                calls  read units  write units  $ a million turns")
    for name, last in stores.items():
        print(f"{name:35}  {last.calls:5}  {last.read_units:10}  {last.write_units:11}  {dollars(last):17.2f}")
    print(f"\nBeyond the model's time: {warm_turn.line(warm)}.")
    print("\nThe writes of a turn of several steps:\n", *steps.table(writes), sep="\n")
    print("\nThe input of 30 turns of 30 blocks, by the stand-in's cache:\n", *cached_input.table(inputs), sep="\n")
    print("\nTurns with a picture of 3 MB each:\n", *pictures.table(shown, drawn), sep="\n")
    print("\nStreams, and the door of the Messages API:\n", *streams.table(streamed), sep="\n")
    boto3_cpu, claude_cpu = starts[0].cpu_s, starts[1].cpu_s
    print("\nA cold start, imports only:\n")
    print("function                       modules  CPU s  of boto3's client  of anthropic and boto3's client")
    for start in starts:
        ratios = f"{start.cpu_s / boto3_cpu:17.2f}  {start.cpu_s / claude_cpu:31.2f}"
        print(f"{start.name:29}  {start.modules:7}  {start.cpu_s:5.2f}  {ratios}")
    print("\nMemory, and CPU in seconds, in a fresh process for each:\n", *memory.table(footprints), sep="\n")
    print("\nThe time that this takes at the memory in template.yaml, and the least memory by the rule:\n")
    print(*memory.times(footprints), sep="\n")
    print("\nLists, exports and erasures by the number of a user's sessions:\n", *many_sessions.table(many), sep="\n")
    print("\nA turn in all, by the prices in tests/bench/whole_turn.py:\n", *whole_turn.table(), sep="\n")
    OUTPUT.parent.mkdir(mode=0o700, exist_ok=True)
    found = {"turns": conversation.as_json(costs), "stores": {name: asdict(last) for name, last in stores.items()}}
    found["cold_starts"] = [asdict(start) for start in starts]
    found["many_sessions"] = [asdict(each) for each in many]
    found["memory"] = [asdict(each) for each in footprints]
    found["warm_turn"] = [asdict(warm)]
    found["steps"] = [asdict(each) for each in writes]
    found["cached_input"] = [asdict(each) for each in inputs]
    found["streams"] = [asdict(streamed)]
    found["pictures"] = [asdict(cost) | asdict(used) for cost, used in zip(shown, drawn, strict=True)]
    OUTPUT.write_text(json.dumps(found, indent=1) + "\n")
    print(f"\nAs JSON: {OUTPUT}")


def dollars(cost: TurnCost) -> float:
    """For a million such turns, on demand."""
    return cost.read_units * READ_DOLLARS + cost.write_units * WRITE_DOLLARS


main()

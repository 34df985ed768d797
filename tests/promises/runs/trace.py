"""The trace of a run: every call in order with its time, process, fault and outcome; then every act."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.promises.world.world import World


def trace(world: World) -> Iterator[str]:
    """Yields a line for each call, with the index by which a fault can be given to it, and one for each act."""
    start_ms = world.network.steps[0].at_ms
    for step in world.network.steps:
        number = f"{step.index:4}" if step.index >= 0 else "   -"
        fault = f" [{step.fault}]" if step.fault else ""
        what = f"{step.operation} {_shown(step.arguments)}{fault} -> {step.outcome}"
        yield f"{number} {step.at_ms - start_ms:8} ms {step.process:24} {what}"
    for act in world.acts:
        outcome = repr(act.error) if act.error else "died" if act.result is None else "succeeded"
        span = f"{act.began_ms - start_ms}..{act.ended_ms - start_ms} ms"
        yield f"     {type(act).__name__} by {act.process.name} at {act.address.id}, {span}: {outcome}"


def _shown(given: dict[str, Any]) -> str:
    """Returns the arguments of a call, as short as they can still be told apart."""
    if "text" in given:
        return str(given["text"])
    if "TransactItems" in given:
        return " + ".join(f"{kind} {_shown(one)}" for action in given["TransactItems"] for kind, one in action.items())
    if "RequestItems" in given:
        writes = [write for some in given["RequestItems"].values() for write in some]
        return ", ".join(_shown(next(iter(write.values()))) for write in writes)
    item = given.get("Item") or given.get("Key") or {}
    values = given.get("ExpressionAttributeValues", {})
    parts = [
        item.get("pk", values.get(":pk", {})).get("S", "")[:8],
        item.get("sk", {}).get("S", "")[:14],
        item.get("st", {}).get("S", ""),
        item.get("tok", {}).get("S", "")[:6],
        f"IF {given['ConditionExpression']}" if "ConditionExpression" in given else "",
        values.get(":token", {}).get("S", "")[:6],
    ]
    return " ".join(part for part in parts if part)

"""DynamoDB's capacity units, from the bytes of the items and the published rules (AWS documentation, 2026-11).

Emulators report reads wrongly or not at all, so the units are computed: a strongly consistent read unit is 4 KB of what
a call read together, a write unit is 1 KB of one item, and a transaction doubles both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mypy_boto3_dynamodb import DynamoDBClient

READ_DOLLARS, WRITE_DOLLARS = 0.125, 0.625
"""A million on-demand units, us-east-1 (AWS price list, 2026-11)."""


def item_bytes(item: Mapping[str, Any]) -> int:
    """An item's size: names and values, numbers at about half a byte a digit."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content.encode())
    if kind == "N":
        return math.ceil(len(content.strip("-").replace(".", "").strip("0")) / 2) + 1
    if kind == "B":
        return len(content)
    if kind == "BOOL":
        return 1
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + _value_bytes(each) for name, each in content.items())
    raise ValueError(kind)


@dataclass
class Meter:
    """Counts what a client calls, and the CPU it takes. Calls are made one after another, so each is a round trip."""

    calls: list[str] = field(default_factory=list)
    read_units: int = 0
    write_units: int = 0
    last_put_bytes: int = 0
    put_bytes: int = 0
    cpu_s: float = 0

    def watch(self, client: DynamoDBClient) -> None:
        client.meta.events.register("provide-client-params.dynamodb.*", self._before)
        client.meta.events.register("after-call.dynamodb.*", self._after)

    def take(self) -> Meter:
        """The counts since the last call of this method."""
        taken = replace(self)
        self.calls, self.read_units, self.write_units, self.put_bytes, self.cpu_s = [], 0, 0, 0, 0
        return taken

    def _before(self, params: Mapping[str, Any], **_: Any) -> None:
        self._began = time.process_time()
        if "TransactItems" in params:
            actions, factor = params["TransactItems"], 2
            puts = [each["Put"]["Item"] for each in actions if "Put" in each]
            self.write_units += factor * (len(actions) - len(puts))  # counters and checks, of items below 1 KB
        else:
            puts, factor = [params["Item"]] if "Item" in params else [], 1
        for item in puts:
            self.last_put_bytes = item_bytes(item)
            self.put_bytes += self.last_put_bytes
            self.write_units += factor * math.ceil(self.last_put_bytes / 1024)

    def _after(self, parsed: Mapping[str, Any], model: Any, **_: Any) -> None:
        self.calls.append(model.name)
        self.cpu_s += time.process_time() - self._began
        if "Items" in parsed:
            self.read_units += max(1, math.ceil(sum(map(item_bytes, parsed["Items"])) / 4096))

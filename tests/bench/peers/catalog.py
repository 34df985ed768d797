"""The stores that are measured, each in the way that its documentation shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ENVIRONMENTS = Path(".tools/peers")
_PINS = Path(__file__).parent / "pins"


@dataclass(frozen=True, slots=True)
class Configuration:
    """A store and its settings. `environment` names its virtual environment and its pins; none for ours."""

    name: str
    adapter: str
    environment: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    note: str = ""

    @property
    def python(self) -> Path:
        return ENVIRONMENTS / self.environment / "bin/python" if self.environment else Path(".venv/bin/python")

    @property
    def paths(self) -> list[str]:
        """Folders of the repository that its process may import from, beside the adapters."""
        return [] if self.environment else ["layers/turnlog/python", "."]

    @property
    def versions(self) -> dict[str, str]:
        """Of what was asked for, as pinned."""
        if not self.environment:
            return {}
        pinned = dict(
            re.findall(r"^([\w-]+)==([^\s;]+)", (_PINS / f"{self.environment}.txt").read_text(), re.MULTILINE)
        )
        asked = re.findall(r"^[\w-]+", (_PINS / f"{self.environment}.in").read_text(), re.MULTILINE)
        return {name: pinned[name] for name in asked}


_STRANDS = "the agent's own window of 40 messages; no S3"
_LANGGRAPH = "a graph of one node with MessagesState; no S3"

PEERS = (
    Configuration("langchain-community", "langchain_history", "langchain-community", note="no history_size"),
    Configuration(
        "langchain-community, 50 messages",
        "langchain_history",
        "langchain-community",
        {"history_size": 50},
        "as many as Turnlog shows the model at most; older ones are gone for good",
    ),
    Configuration("langgraph-checkpoint-aws", "langgraph_saver", "langgraph-checkpoint-aws", note=_LANGGRAPH),
    Configuration(
        "langgraph-checkpoint-aws, gzip + exit",
        "langgraph_saver",
        "langgraph-checkpoint-aws",
        {"enable_checkpoint_compression": True, "durability": "exit"},
        _LANGGRAPH,
    ),
    Configuration("strands-session-dynamodb", "strands_session", "strands-session-dynamodb", note=_STRANDS),
    Configuration("strands-dynamodb-storage", "strands_snapshot", "strands-dynamodb-storage", note=_STRANDS),
    Configuration(
        "strands-dynamodb-storage, gzip",
        "strands_snapshot",
        "strands-dynamodb-storage",
        {"compression": "gzip"},
        _STRANDS,
    ),
    Configuration("chainlit", "chainlit_layer", "chainlit", note="the data layer alone, without the steps of a run"),
    Configuration("flask-session", "flask_session_store", "flask-session", note="messages in flask.session"),
    Configuration("dynamodb-session-web", "session_web", "dynamodb-session-web", note="messages in the session's dict"),
)

WITHOUT_LIMITS = Configuration("Turnlog", "turnlog_store", note="window of 25 turns, strong reads")
RATE_LIMIT = Configuration(
    "Turnlog, rate limit", "turnlog_store", settings={"turns_a_minute": 1_000_000}, note="turns a minute, per owner"
)
SETTLED_BUDGET = Configuration(
    "Turnlog, settled budget",
    "turnlog_store",
    settings={"budget_a_day": 1_000_000_000},
    note="tokens a day, per owner, reserved before the model is asked and settled after",
)
OURS = (WITHOUT_LIMITS, RATE_LIMIT, SETTLED_BUDGET)

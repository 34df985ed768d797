"""The whole cost of a turn: the model's tokens, and every AWS service beside DynamoDB, as a worked example.

Prices are on demand, in us-east-1, November 2026, without free tiers: AWS's price pages for each service, and
`turnlog.domain.prices` for the model. Nothing here was billed: it is arithmetic over the template and the benchmark.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date

from tests.bench.capacity import READ_DOLLARS, WRITE_DOLLARS
from tests.deployed import memory_mb
from turnlog.domain.messages import Usage
from turnlog.domain.prices import cost_usd
from turnlog.domain.window import WindowPolicy

MILLION = 1_000_000
GB = 1_000_000_000

LAMBDA_GB_SECOND = 0.0000133334  # arm64, first tier
LAMBDA_REQUEST = 0.20 / MILLION
GATEWAY_REQUEST = 3.50 / MILLION  # REST API, first tier
DATA_OUT_BYTE = 0.09 / GB
KMS_CALL = 0.03 / 10_000
LOG_BYTE = 0.50 / GB  # ingestion; to keep it for 30 days adds a fifteenth
XRAY_TRACE = 5.00 / MILLION
MODEL, DAY = "claude-sonnet-5-5", date(2026, 11, 29)

SESSION_GB, AUTHORIZER_GB = (memory_mb(f"{name}Function") / 1024 for name in ("Session", "Authorizer"))
OWN_S = 0.06  # beside the model: 17 ms for 5 ms of CPU, three round trips to DynamoDB and one in five to KMS
AUTHORIZER_S = 0.05
TURNS_PER_TOKEN_LOOK = 5  # a turn a minute; the gateway and the unwrapped key both last 5 minutes
LEASE, RATE, BUDGET, TURN, SETTLEMENT = 2, 2, 2, 4, 2  # in transactions, at 2 write units a KB; a turn has 2 KB
TURN_WRITES = LEASE + RATE + BUDGET + TURN + SETTLEMENT  # with both limits for the owner, as deployed by default
TURN_READS = 10
SESSION_TURNS = 20
CREATION = 2 * (5 + 2)  # index, sweeper's entry, header, meta and the check of slot 1; the user's key and the limit
SWEEP = 2 + 5 + 2 * SESSION_TURNS  # put off once; then tombstone, header, meta, index, entry, and 2 KB a turn
SESSION_WRITES = CREATION + SWEEP
ANSWER_BYTES = 1_000  # beside the reply, which stands in it twice: ids, usage, times and headers
LOG_BYTES = 373 + 200 + 550 + 4 * 26  # the line of a request, the gateway's, Lambda's two; 26 more for each
AUDIT_BYTES = 173 + 26  # one event a session: its creation
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Example:
    """A turn in the middle of a long conversation: a message, and a reply that takes `reply_s` seconds."""

    reply_s: float
    message_tokens: int
    reply_tokens: int


EXAMPLES = Example(5, 250, 250), Example(20, 250, 1250)


def parts(example: Example) -> dict[str, float]:
    """Dollars for a million such turns, by what is paid."""
    reply_bytes = example.reply_tokens * CHARACTERS_PER_TOKEN
    dollars = {
        "Lambda, while the model talks": example.reply_s * SESSION_GB * LAMBDA_GB_SECOND,
        "Lambda, its own time and requests": OWN_S * SESSION_GB * LAMBDA_GB_SECOND + LAMBDA_REQUEST,
        "the authorizer": (AUTHORIZER_S * AUTHORIZER_GB * LAMBDA_GB_SECOND + LAMBDA_REQUEST) / TURNS_PER_TOKEN_LOOK,
        "API Gateway": GATEWAY_REQUEST,
        "data out": (2 * reply_bytes + ANSWER_BYTES) * DATA_OUT_BYTE,
        "DynamoDB, the turn": (TURN_WRITES * WRITE_DOLLARS + TURN_READS * READ_DOLLARS) / MILLION,
        "DynamoDB, its share of the session": SESSION_WRITES / SESSION_TURNS * WRITE_DOLLARS / MILLION,
        "KMS, and the key's read": (KMS_CALL + READ_DOLLARS / MILLION) / TURNS_PER_TOKEN_LOOK,
        "logs, and the session's audit event": (LOG_BYTES + AUDIT_BYTES / SESSION_TURNS) * LOG_BYTE,
        "X-Ray, every turn traced": XRAY_TRACE,
    }
    return {name: each * MILLION for name, each in dollars.items()}


def model_dollars(example: Example) -> float:
    """Dollars for the tokens of a million such turns, with the window and the prompt cache as they are."""
    policy, turn = WindowPolicy(), example.message_tokens + example.reply_tokens
    kept = policy.turns // 2  # after a cut; the next one comes after as many turns as this one dropped
    between = policy.turns - kept
    sent = (kept + policy.turns - 1) / 2  # earlier turns, on average
    cut = kept / between  # of them written to the cache anew instead of read from it
    usage = {
        "cache_read_input_tokens": round((sent - cut) * turn),
        "cache_creation_input_tokens": round((1 + cut) * turn),
        "output_tokens": example.reply_tokens,
    }
    return float(cost_usd(MODEL, Usage(json.dumps(usage)), DAY) or "nan") * MILLION


def table() -> list[str]:
    """Returns the table of docs/benchmarks.md."""
    columns = [parts(example) for example in EXAMPLES]
    heads = "".join(f" a reply of {example.reply_s:.0f} s |" for example in EXAMPLES)
    lines = [f"| $ a million turns |{heads}", "|---|" + "---|" * len(EXAMPLES)]
    lines += [f"| {name} |" + "".join(f" {column[name]:,.2f} |" for column in columns) for name in columns[0]]
    aws, model = [sum(column.values()) for column in columns], [model_dollars(example) for example in EXAMPLES]
    lines.append("| **AWS in all** |" + "".join(f" **{each:,.2f}** |" for each in aws))
    lines.append(f"| **the tokens of {MODEL}** |" + "".join(f" **{each:,.0f}** |" for each in model))
    shares = [each / (each + tokens) for each, tokens in zip(aws, model, strict=True)]
    lines.append("| AWS's share |" + "".join(f" {share:.1%} |" for share in shares))
    return lines

"""`make docs`: the tables of docs/api.md, generated from the tables of the API's own document."""

from __future__ import annotations

from pathlib import Path

from turnlog.entrypoints.http.openapi.operations import ANONYMOUS, OPERATIONS, USER, Operation
from turnlog.entrypoints.http.openapi.refusals import refusals
from turnlog.entrypoints.http.problems import ROUTE_NOT_FOUND

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
_WHO = {USER: "signed in", ANONYMOUS: "anonymous"}


def routes() -> str:
    """Returns a line for each route; required values are bold."""
    lines = ["| route | does | for | takes | answers |", "|---|---|---|---|---|"]
    for (method, path), operation in OPERATIONS.items():
        who = " and ".join(operation.roles) or ", ".join(_WHO[caller] for caller in operation.callers) or "anybody"
        status = f"{operation.status} or {operation.unfinished}" if operation.unfinished else str(operation.status)
        good = f"{status} {operation.reply.__name__}" if operation.reply else status
        if operation.events:
            good += " [events](#streams)"
        lines.append(f"| `{method} {path}` | {operation.summary} | {who} | {', '.join(_taken(operation))} | {good} |")
    return "\n".join(lines)


def errors() -> str:
    """Returns a line for each status, with its codes."""
    found = {(ROUTE_NOT_FOUND.status, ROUTE_NOT_FOUND.code)}
    found |= {(each["status"], each["code"]) for one in OPERATIONS.values() for each in refusals(one)}
    lines = ["| status | codes |", "|---|---|"]
    for status in sorted({status for status, _ in found}):
        codes = " ".join(f"`{code}`" for each, code in sorted(found) if each == status)
        lines.append(f"| {status} | {codes} |")
    return "\n".join(lines)


def _taken(operation: Operation) -> list[str]:
    taken = []
    if operation.body:
        fields = operation.body.model_fields.items()
        taken = [f"**`{name}`**" if each.is_required() else f"`{name}`" for name, each in fields]
    taken += [f"`?{name}`" for name in operation.asks]
    if operation.key is not None:
        taken.append("**`Idempotency-Key`**" if operation.key else "`Idempotency-Key`")
    if operation.waits:
        taken.append("`Prefer`")
    return taken


def renewed(page: str) -> str:
    """Returns the page with current tables; each stands between two comments that name it."""
    for name, table in (("routes", routes()), ("errors", errors())):
        before, begin, rest = page.partition(f"<!-- {name}, by make docs -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->\n")
        page = f"{before}{begin}\n{table}\n\n{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))

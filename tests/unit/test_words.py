"""A word has one meaning: a name that was given up for a clearer one does not come back.

Only identifiers count. Strings such as the route "/claim", the stored `st: "ended"` and the setting "hybrid" stay: they
are on the wire or stored.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOTS = ("layers", "functions", "local", "tests")
FILES = [path for root in ROOTS for path in sorted(Path(root).rglob("*.py"))]

# Modules and packages.
MODULES = {
    "stores": "adapters",
    "shelf": "root",
    "place": "session_dir",
    "forms": "records",
    "ending": "deletion",
    "moving": "move",
    "sweeping": "sweeper",
    "views": "reads",
    "hybrid": "read_cache",
    "conversations": "sessions",
    "handover": "transfers",
    "shapes": "schemas",
    "console": "meta",
    "naming": "its callers",
    "billing": "its callers",
    "crypto": "server_key",
    "sealing": "content_encryption",
    "mood": "run_config",
    "mortals": "killable",
    "planting": "patching",
    "hunting": "mutation_run",
    "everybody": "every_route",
}
# Every identifier, local variables included.
NAMES = {
    "Log": "SessionView",
    "TurnLog": "TurnStore",
    "Ended": "Tombstone",
    "Bill": "QuotaCharges",
    "Charge": "QuotaCharge",
    "Answer": "Response",
    "Seal": "ContentCipher",
    "Claim": "Lease",
    "ClaimLost": "LeaseLost",
    "ClaimHeld": "LeaseHeld",
    "Allowance": "quota",
    "AllowanceUsedUp": "QuotaExceeded",
    "when_free": "retry_while_busy",
    "_look": "_read_consistent",
    "_glance": "_read_cached",
    "_place": "what it is",
    "place": "what it is",
    "place_of": "what it is",
    "dies_ms": "expires_ms",
    "until_ms": "lease_expires_ms",
    "fresh": "consistent",
    "seal": "encrypt or sign",
    "sealed": "encrypted or signed",
    "unseal": "decrypt",
    "unsealed": "decrypted",
    "NameUsedUp": "KeyUsedUp",
    "is_named": "has_key",
    "Principal": "VerifiedToken",
    "Gone": "SessionTombstone",
    "require_storable": "require_turn_storable or require_message_storable",
}
# Parameters, fields and functions; a local variable may have the plain meaning.
INTERFACES = {
    "told": "details",
    "there": "find_existing",
    "others": "attempt_counts",
    "ended": "deleted, moved or expired",
}
PREFIXES = {"expect_": "require_"}

ALLOWED = {
    ("ended", "layers/turnlog/python/turnlog/entrypoints/http"): "a field on the wire",
    ("moving", "tests/promises"): "the mutants of moves, one module for each kind of change",
    ("console", "functions/console"): "the name of the deployed function",
    ("told", "tests/unit/claude_stand_in/test_answers.py"): "sentences that the user told the stand-in",
    ("others", "tests/promises/simulator"): "the other arguments of a call",
}
"""Names that are something else's, by folder or file, with the reason."""


def identifiers(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Every identifier of a module with its node: names, attributes, parameters, keywords, definitions and imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            continue
        for field, value in ast.iter_fields(node):
            if field != "type_comment":
                for each in value if isinstance(value, list) else [value]:
                    if isinstance(each, str):
                        yield from ((name, node) for name in each.split("."))


def is_interface(node: ast.AST) -> bool:
    """True for anything that is visible outside its function: no local variable."""
    return not isinstance(node, ast.Name)


def is_allowed(name: str, path: Path) -> bool:
    return any(word == name and path.as_posix().startswith(folder) for word, folder in ALLOWED)


def better(name: str, node: ast.AST) -> str:
    """The name to take for a retired one; empty when it is not retired."""
    if name in NAMES:
        return NAMES[name]
    if name in INTERFACES and is_interface(node):
        return INTERFACES[name]
    if name in MODULES and isinstance(node, ast.Import | ast.ImportFrom):
        return MODULES[name]
    return next((new for prefix, new in PREFIXES.items() if name.startswith(prefix)), "")


def retired(path: Path) -> Iterator[str]:
    """The retired names of a file, each with its line and the name to take."""
    for name in path.with_suffix("").parts:
        if name in MODULES and not is_allowed(name, path):
            yield f"{path}: the module {name} is {MODULES[name]}"
    for name, node in identifiers(ast.parse(path.read_text())):
        if (new := better(name, node)) and not is_allowed(name, path):
            yield f"{path}:{getattr(node, 'lineno', 0)}: {name} is {new}"


def test_no_retired_name_comes_back() -> None:
    assert [found for path in FILES for found in retired(path)] == []


def test_every_kind_of_identifier_is_seen() -> None:
    code = (
        "import a.b as c\nfrom d.e import f as g\nclass H(I, j=k): l: m = n\n"
        "def o(p, *q, r=s, **t) -> u: global v; return w.x(y=z)\nf'{aa}'\nmatch bb:\n  case Cc(dd=ee): pass"
    )
    found = {name for name, _ in identifiers(ast.parse(code)) if name}
    assert set("abcdefgHIjklmnopqrstuvwxyz") - {"k"} <= found
    assert {"aa", "bb", "Cc", "dd", "ee"} <= found

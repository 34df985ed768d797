"""`make asvs`: the requirements of OWASP ASVS 5.0 and the tests that prove them.

`python -m tests.asvs` prints each requirement that applies with its tests, `--short` those that are open; the exit code
is 1 when there are any.
"""

from __future__ import annotations

import sys
from collections import defaultdict

import pytest

REQUIREMENTS = {
    "2.2.1": "what comes in is checked against what is allowed",
    "2.2.2": "and by the service, not by its clients",
    "2.2.3": "combinations of fields included",
    "2.3.1": "the steps of a turn come in their order: no commit without a lease",
    "2.3.2": "limits are enforced, whatever comes at once",
    "2.3.3": "a turn is stored whole or not at all",
    "2.3.4": "a session has one turn in flight",
    "2.4.1": "what is costly is reserved before it is paid",
    "3.4.1": "Strict-Transport-Security on every answer",
    "3.4.4": "X-Content-Type-Options: nosniff on every answer",
    "4.1.1": "every answer names its media type and charset",
    "4.1.3": "no header of the caller says who it is, but for a back end that may name its people",
    "4.1.4": "only declared methods answer",
    "7.1.1": "idle and absolute ends are documented parameters",
    "7.1.2": "a limit on the sessions of an owner, refused and never silently evicted",
    "7.1.3": "a token's life prolongs no session",
    "7.2.1": "tokens are verified in one trusted module",
    "7.2.2": "an anonymous session has a secret of its own",
    "7.2.3": "ids of 128 random bits, secrets of 256",
    "7.2.4": "a claimed or rotated session has a new secret, and the old one is dead",
    "7.3.1": "a session ends when it is idle",
    "7.3.2": "and at its absolute end",
    "7.4.1": "a session that has ended cannot be continued by any route",
    "7.4.2": "erasing or disabling a user ends all sessions",
    "7.4.5": "an administrator can end one user's sessions",
    "7.5.2": "a user can list and end sessions",
    "7.6.1": "the session's ends do not depend on the identity provider's",
    "7.6.2": "a session is made by asking for one, and by nothing else",
    "8.2.1": "who may use which route",
    "8.2.2": "who may see which session",
    "8.2.3": "who may see which of its fields",
    "8.3.1": "it is decided in the service",
    "8.3.2": "another role counts with the next token",
    "8.4.1": "another owner's session is a look-up miss",
    "9.1.1": "a token's signature is checked before anything in it is believed",
    "9.1.2": "algorithms are pinned, and none is none",
    "9.1.3": "keys come from the issuer that was configured",
    "9.2.1": "a token counts within its time alone",
    "9.2.2": "it must be of the kind that is expected",
    "9.2.3": "and for this audience",
    "11.3.2": "content is encrypted with AES-256-GCM",
    "11.3.3": "and what is changed or moved does not open",
    "11.3.4": "no nonce is used twice under a key",
    "12.1.1": "TLS 1.2 or later",
    "14.2.1": "no secret in a URL",
    "14.2.2": "nothing between keeps an answer",
    "14.2.7": "everything that is stored has its end, and erasure reaches all of it",
    "14.3.2": "Cache-Control: no-store on every answer",
    "15.1.3": "a turn that outlasts its caller's patience is stored and found",
    "15.3.3": "fields that are not expected are refused",
    "15.3.5": "types are strict",
    "15.4.2": "check and act are one conditional write",
    "15.4.3": "every lease ends",
    "16.2.5": "neither content nor secrets nor raw ids in logs",
    "16.3.2": "refused access is noted",
    "16.3.3": "and so is a limit that was hit",
    "16.4.1": "no line of a log can be forged",
    "16.5.1": "errors say nothing of the inside",
    "16.5.2": "a dependency that fails is a clear answer, and nothing half is stored",
    "16.5.3": "what cannot be checked is refused",
    "16.5.4": "any other error becomes an answer",
}

NOT_APPLICABLE = {
    "7.4.3": "the issuer has the factors of authentication; a rotated secret ends the old one (7.2.4)",
    "7.5.1": "there is no account whose attributes could be changed: the issuer has them",
    "7.5.3": "as 7.5.1",
    "8.3.3": "no queue carries a caller's request: what S3 and the clock report is about the service's own things",
    "V6": "no password or login of its own: the issuer has them",
    "V17": "no WebRTC",
}


class _Collected:
    """A pytest plugin that collects the tests of each requirement."""

    def __init__(self) -> None:
        self.tests: defaultdict[str, set[str]] = defaultdict(set)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for mark in item.iter_markers("asvs"):
                for number in mark.args:
                    self.tests[number].add(item.nodeid.partition("[")[0])


def main(*, short: bool = False) -> int:
    """Returns 0 when no requirement is open, 1 when one is, 2 when the tests cannot be collected.

    With `--short` it prints the open requirements only.
    """
    collected = _Collected()
    if pytest.main(["--collect-only", "--quiet", "--no-summary", "--quiet", "--quiet", "tests"], [collected]):
        return 2
    unknown = sorted(collected.tests.keys() - REQUIREMENTS.keys())
    for number, meaning in REQUIREMENTS.items():
        tests = sorted(collected.tests[number])
        if tests and short:
            continue
        _say(f"{number:7} {'covered' if tests else 'OPEN':8} {meaning}")
        for test in tests:
            _say(f"{'':17}{test}")
    for number, reason in NOT_APPLICABLE.items() if not short else ():
        _say(f"{number:7} {'n/a':8} {reason}")
    for number in unknown:
        _say(f"{number:7} UNKNOWN  {', '.join(sorted(collected.tests[number]))}")
    still_open = [number for number in REQUIREMENTS if not collected.tests[number]]
    _say(f"{len(REQUIREMENTS) - len(still_open)} covered, {len(NOT_APPLICABLE)} not applicable, {len(still_open)} open")
    return 1 if still_open or unknown else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main(short="--short" in sys.argv))

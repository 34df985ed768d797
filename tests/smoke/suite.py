"""All checks of a deployment, one line each, and the removal of what they made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from tests.smoke import gateway
from tests.smoke.account import Account
from tests.smoke.api import Api
from tests.smoke.conversation import Conversation
from tests.smoke.documents import Documents
from tests.smoke.outcome import LeftOut, Unexpected
from tests.smoke.streams import Streams
from tests.smoke.target import Target
from tests.smoke.throttle import throttle
from tests.smoke.transport import transport

_NO_TOKEN = "needs TOKEN=<a JWT of the deployment's issuer>; on this machine `make token` prints one"

Check = Callable[[], str]
Outcome = Literal["ok", "left out", "FAILED"]


@dataclass(slots=True)
class Report:
    """The lines of a run; `say` shows one."""

    say: Callable[[str], None]
    outcomes: list[Outcome] = field(default_factory=list)

    def add(self, name: str, check: Check) -> None:
        """Makes a check and shows its line."""
        outcome: Outcome = "ok"
        try:
            seen = check()
        except LeftOut as error:
            outcome, seen = "left out", str(error)
        except Unexpected as error:
            outcome, seen = "FAILED", str(error)
        self.outcomes.append(outcome)
        self.say(f"{name:15}  {outcome:8}  {seen}")


def run(target: Target, say: Callable[[str], None] = print) -> bool:
    """Makes every check, one line each, and removes what they made. Returns True when none failed."""
    report, api, account = Report(say), Api(target), Account(target)
    conversation, documents = Conversation(api), Documents(api, account, target.token)
    streams = Streams(api, conversation)
    public: dict[str, Check] = {
        "health": partial(gateway.health, api),
        "preflight": partial(gateway.preflight, api, target),
        "no token": partial(gateway.no_token, api),
        "unknown route": partial(gateway.unknown_route, api),
        "unknown method": partial(gateway.unknown_method, api),
    }
    signed_in: dict[str, Check] = {
        "query": conversation.query,
        "session": conversation.session,
        "turn": conversation.turn,
        "replay": conversation.replay,
        "stream": streams.question,
        "streamed turn": streams.turn,
        "its replay": streams.replay,
        "message": streams.message,
        "its turn": streams.message_in_session,
        "x-api-key": streams.api_key,
        "unknown session": conversation.unknown_session,
        "upload, summary": documents.upload,
        "export": conversation.export,
        "delete": conversation.delete,
    }
    if not target.token:
        signed_in = dict.fromkeys(signed_in, _without_token)
    settings: dict[str, Check] = {
        "TLS": partial(transport, account, is_local=target.is_local),
        "throttle": partial(throttle, api, account),
    }
    checks = public | signed_in | settings
    try:
        for name, check in checks.items():
            report.add(name, check)
    finally:
        report.add("clean-up", partial(_erase, documents, conversation))
        api.close()
        account.close()
    counts = ", ".join(f"{report.outcomes.count(each)} {each}" for each in ("ok", "left out", "FAILED"))
    say(f"{'in all':15}  {'FAILED' if 'FAILED' in report.outcomes else 'ok':8}  {counts}, ${api.cost_usd:f}")
    return "FAILED" not in report.outcomes


def _without_token() -> str:
    raise LeftOut(_NO_TOKEN)


def _erase(documents: Documents, conversation: Conversation) -> str:
    """Removes what the checks have left, each whatever comes of the other."""
    try:
        objects = documents.erase()
    finally:
        sessions = conversation.erase()
    return f"nothing stays: {sessions} session{'' if sessions == 1 else 's'} and {objects} documents removed"

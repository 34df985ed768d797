"""The one who calls decides whether a request goes on, and who pays for it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from local.claude_stand_in import StandIn
from tests.handlers.conftest import Backstage
from tests.messages.asking import ASKED, STREAMED, error_of, post
from tests.messages.conftest import DoorSettings
from tests.stream.conftest import Served
from turnlog import runtime
from turnlog.domain.limits import OwnerLimits
from turnlog.domain.owners import VerifiedToken, delegated_owner
from turnlog.errors import Unauthorized

PATHS = ("/messages", "/v1/messages", "/v1/v1/messages", "/v1/messages/count_tokens")
ISSUER = "https://issuer.example/"


class Knowing:
    """Believes the tokens of a person, of a back end that acts for its people, and of somebody whose time is over."""

    def verify(self, token: str) -> VerifiedToken:
        if token not in ("ada", "backend", "late"):
            raise Unauthorized
        roles = frozenset({"delegate"} if token == "backend" else ())
        return VerifiedToken(f"{ISSUER}|{token}", 1 if token == "late" else 4_102_444_800, roles)


@pytest.fixture(autouse=True)
def _tokens(settings: DoorSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "token_verifier", Knowing)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("sent", ["", "ada", "Bearer", "Bearer eve", "Bearer late", "Basic YWRhOmFkYQ=="])
def test_who_is_not_verified_is_told_how_to_sign_in(sent: str, path: str, door: Served, claude: StandIn) -> None:
    answer = post(door.url, ASKED, path, {"Authorization": sent, "x-api-key": "ada"})
    assert error_of(answer) == (401, "authentication_error", "unauthorized")
    assert "ANTHROPIC_AUTH_TOKEN" in answer.json()["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert claude.requests == []


@pytest.mark.parametrize("path", PATHS)
def test_who_holds_a_secret_may_not(path: str, door: Served, claude: StandIn) -> None:
    answer = post(door.url, ASKED, path, {"Authorization": f"Session {'A' * 43}"})
    assert error_of(answer) == (403, "permission_error", "forbidden")
    assert claude.requests == []


def test_who_acts_for_somebody_needs_the_role(door: Served, claude: StandIn) -> None:
    answer = post(door.url, headers={"Turnlog-User": "eve"})
    assert error_of(answer) == (403, "permission_error", "forbidden")
    assert claude.requests == []


@pytest.mark.parametrize("body", [ASKED, STREAMED], ids=["whole", "stream"])
def test_the_one_whom_a_back_end_acts_for_pays(
    body: dict[str, object], door: Served, settings: DoorSettings, backstage: Backstage
) -> None:
    settings.limits = OwnerLimits(budget_a_day=Decimal(100_000))
    answer = post(door.url, body, headers={"Authorization": "Bearer backend", "Turnlog-User": "eve"})
    assert answer.status_code == 200
    assert sum(used_by(backstage, delegated_owner(f"{ISSUER}|backend", "eve"))) > 0
    assert used_by(backstage, f"{ISSUER}|backend") == []


def used_by(backstage: Backstage, owner: str) -> list[Decimal]:
    return [amount for amount, _ in backstage.store._memory.counters(owner).used.values()]


def test_a_refused_act_is_written_down_without_what_it_says(door: Served, backstage: Backstage) -> None:
    post(door.url, headers={"Authorization": f"Session {'A' * 43}"})
    post(door.url, headers={"Turnlog-User": "canary"})
    assert [(each["action"], each["reason"]) for each in backstage.audit.events] == [("denied", "forbidden")] * 2
    assert "canary" not in str(backstage.audit.events)

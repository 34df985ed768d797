"""P12 and P3: this version and the one before it serve the same sessions in turns, as during a deploy or a rollback.

Both run in processes of their own, over one set of tables. What one answers, the other repeats to the byte.
"""

from __future__ import annotations

import hashlib
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from local.claude_stand_in import StandIn
from tests.promises.integration import two_versions
from tests.promises.integration.two_versions import Answered, Served, extracted, new_resources, previous_commit, served

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TURNS = "POST /sessions/{id}/turns"
ONE = "GET /sessions/{id}"


@pytest.fixture(scope="module")
def versions(ministack: DynamoDBClient) -> Iterator[dict[str, Served]]:
    try:
        commit = previous_commit()
    except LookupError as error:
        pytest.skip(str(error))
    with ExitStack() as stack:
        claude = stack.enter_context(StandIn())
        resources = new_resources(ministack.meta.endpoint_url, claude.url)
        before = stack.enter_context(extracted(commit))
        roots = {"old": before, "new": two_versions.ROOT}
        yield {name: stack.enter_context(served(root, resources)) for name, root in roots.items()}


@pytest.fixture(params=["old first", "new first"])
def pair(versions: dict[str, Served], request: pytest.FixtureRequest) -> tuple[Served, Served]:
    """The two versions in both orders."""
    names = ("old", "new") if request.param == "old first" else ("new", "old")
    return versions[names[0]], versions[names[1]]


def new_key() -> str:
    return secrets.token_urlsafe(12)


def created(by: Served, **more: Any) -> str:
    answer = by.ask("POST /sessions", {"title": "Herons"}, **more)
    assert answer.status == 201, answer.text
    return str(answer.body["session_id"])


def take(by: Served, session_id: str, text: str, key: str = "", **more: Any) -> Answered:
    answer = by.ask(TURNS, {"message": text}, key=key or new_key(), id=session_id, **more)
    assert answer.status == 200, answer.text
    return answer


def both(pair: tuple[Served, Served], route: str, body: object = None, **more: Any) -> Answered:
    """The answer of the two, which must be one."""
    first, second = (by.ask(route, body, **more) for by in pair)
    assert (first.status, first.text) == (second.status, second.text)
    return first


def test_each_process_runs_its_own_version(versions: dict[str, Served]) -> None:
    packages = {name: Path(by.package) for name, by in versions.items()}
    assert packages["new"].is_relative_to(two_versions.ROOT)
    assert not packages["old"].is_relative_to(two_versions.ROOT)


def test_turns_alternate_and_each_key_replays_with_the_other(pair: tuple[Served, Served]) -> None:
    first, second = pair
    create_key = new_key()
    session_id = created(first, key=create_key)
    assert created(second, key=create_key) == session_id
    replies = {}
    for number, by in zip(range(1, 7), cycle((second, first)), strict=False):
        key = new_key()
        replies[key] = take(by, session_id, f"This is {number}.", key)
        assert replies[key].body["turn"] == number
    for number, (key, taken) in enumerate(replies.items(), 1):
        again = both(pair, TURNS, {"message": f"This is {number}."}, key=key, id=session_id)
        assert again.text == taken.text
        assert both(pair, TURNS, {"message": "other"}, key=key, id=session_id).status == 422
    assert both(pair, ONE, id=session_id).body["turns"] == 6
    assert len(both(pair, "GET /sessions/{id}/turns", id=session_id).body["items"]) == 6
    assert both(pair, "GET /sessions/{id}/turns/{n}", id=session_id, n="3").body["turn"] == 3


def test_what_one_version_is_told_the_other_remembers(pair: tuple[Served, Served]) -> None:
    first, second = pair
    session_id = created(first)
    take(first, session_id, "My name is Zephyrine.")
    assert "Zephyrine" in take(second, session_id, "What is my name?").body["text"]


def test_a_large_turn_is_read_by_the_other(pair: tuple[Served, Served]) -> None:
    first, second = pair
    session_id, key = created(first), new_key()
    text = secrets.token_hex(60_000)
    taken = take(first, session_id, text, key)
    assert take(second, session_id, text, key).text == taken.text
    assert take(second, session_id, "And now?").body["turn"] == 2


def test_lists_and_exports_are_the_same(pair: tuple[Served, Served]) -> None:
    first, second = pair
    owner = f"https://issuer.example/|{new_key()}"
    ids = [created(by, owner=owner) for by in (first, second, first)]
    for session_id, by in zip(ids, (second, first, second), strict=True):
        take(by, session_id, "Hello.", owner=owner)
        assert second.ask("PATCH /sessions/{id}", {"title": "New"}, id=session_id, owner=owner).status == 200
    listed = [by.ask("GET /sessions", owner=owner).body["items"] for by in pair]
    assert listed[0] == listed[1]
    assert sorted(each["session_id"] for each in listed[0]) == sorted(ids)
    exported = [by.ask("GET /sessions/{id}/export", id=ids[0], owner=owner).body for by in pair]
    everything = [by.ask("GET /me/export", function="account", owner=owner).body for by in pair]
    for one, other in (exported, everything):
        shared = one.keys() & other.keys() - {"exported_at"}
        assert "next" in shared
        assert {name: one[name] for name in shared} == {name: other[name] for name in shared}


def test_a_fork_of_one_version_goes_on_with_the_other(pair: tuple[Served, Served]) -> None:
    first, second = pair
    session_id, key = created(first), new_key()
    for by in (second, first, second):
        take(by, session_id, "Hello.")
    child = first.ask("POST /sessions/{id}/fork", {"turn": 2}, key=key, id=session_id)
    assert child.status == 201, child.text
    again = second.ask("POST /sessions/{id}/fork", {"turn": 2}, key=key, id=session_id)
    assert (again.status, again.text) == (201, child.text)
    child_id = child.body["session_id"]
    assert [take(by, child_id, "Go on.").body["turn"] for by in (second, first)] == [3, 4]
    assert both(pair, ONE, id=session_id).body["turns"] == 3


def test_an_anonymous_session_moves_with_one_version_and_goes_on_with_the_other(pair: tuple[Served, Served]) -> None:
    first, second = pair
    old_secret, new_secret = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    begun = first.ask("POST /anonymous/sessions", {"secret_sha256": sha(old_secret)}, function="anonymous", owner=None)
    assert begun.status == 201, begun.text
    session_id = begun.body["session_id"]
    take(second, session_id, "Hello.", secret=old_secret)
    asked = {"key": new_key(), "id": session_id, "secret": old_secret}
    rotated = both(pair, "POST /sessions/{id}/rotate", {"secret_sha256": sha(new_secret)}, **asked)
    assert rotated.status == 200, rotated.text
    assert both(pair, ONE, id=session_id, secret=old_secret).status == 404
    moved_id = rotated.body["session_id"]
    assert take(second, moved_id, "Go on.", secret=new_secret).body["turn"] == 2
    claimed = both(pair, "POST /sessions/{id}/claim", {"secret": new_secret}, key=new_key(), id=moved_id)
    assert claimed.status == 200, claimed.text
    assert take(first, claimed.body["session_id"], "Go on.").body["turn"] == 3


def sha(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def test_what_one_version_deletes_is_gone_for_the_other(pair: tuple[Served, Served]) -> None:
    first, second = pair
    session_id, key = created(first), new_key()
    take(second, session_id, "Hello.", key)
    assert second.ask("DELETE /sessions/{id}", id=session_id).status == 204
    assert both(pair, ONE, id=session_id).status == 404
    assert both(pair, TURNS, {"message": "Hello."}, key=key, id=session_id).status == 404
    assert both(pair, "DELETE /sessions/{id}", id=session_id).status == 404


def test_what_one_version_erases_is_gone_and_the_user_begins_anew(pair: tuple[Served, Served]) -> None:
    first, second = pair
    owner = f"https://issuer.example/|{new_key()}"
    session_id = created(first, owner=owner)
    take(second, session_id, "Hello.", owner=owner)
    receipt = second.ask("DELETE /me", function="account", owner=owner)
    assert (receipt.status, receipt.body["sessions"]) == (200, 1)
    assert second.ask(ONE, id=session_id, owner=owner).status == 404
    anew = created(second, owner=owner)
    assert [take(by, anew, "Hello.", owner=owner).body["turn"] for by in pair] == [1, 2]


# --- the version before -----------------------------------------------------------------------------------------------


def repository(folder: Path) -> Path:
    """A repository whose last of three commits changes no code."""
    (folder / "functions").mkdir(parents=True)
    (folder / "layers/turnlog").mkdir(parents=True)
    git(folder, "init", "--quiet")
    for number, name in enumerate(("functions/app.py", "layers/turnlog/code.py", "README.md")):
        (folder / name).write_text(f"{number}")
        git(folder, "add", ".")
        git(folder, "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet", "-m", f"{number}")
    return folder


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)  # noqa: S607 (any)
    return done.stdout.strip()


def test_the_version_before_is_the_last_one_with_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = repository(tmp_path / "whole")
    monkeypatch.delenv(two_versions.NAMED_BY, raising=False)
    monkeypatch.setattr(two_versions, "ROOT", folder)
    assert previous_commit() == git(folder, "rev-parse", "HEAD~2")
    (folder / "functions/app.py").write_text("changed")
    assert previous_commit() == git(folder, "rev-parse", "HEAD~1")
    monkeypatch.setenv(two_versions.NAMED_BY, "v1.0")
    assert previous_commit() == "v1.0"


def test_without_a_commit_before_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(two_versions.NAMED_BY, raising=False)
    whole, shallow, bare = repository(tmp_path / "whole"), tmp_path / "shallow", tmp_path / "no clone"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{whole}", str(shallow))
    monkeypatch.setattr(two_versions, "ROOT", shallow)
    with pytest.raises(LookupError, match="too shallow"):
        previous_commit()
    bare.mkdir()
    monkeypatch.setattr(two_versions, "ROOT", bare)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    with pytest.raises(LookupError, match="no clone"):
        previous_commit()

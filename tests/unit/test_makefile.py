"""The Makefile, with stand-ins for the programs that it starts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SAYS = '#!/bin/sh\necho "$(basename "$0") $*, with uv in $(dirname "$(command -v uv)")"\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a space in its name, in which everything is installed."""
    folder = tmp_path / "my projects" / "turnlog"
    for name in (".venv/bin/python", ".venv/bin/sam", "other tools/python3", "other tools/uv"):
        program = folder / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(SAYS)
        program.chmod(0o700)
    for name in ("functions", "layers/turnlog", "local", ".tools/ministack"):
        (folder / name).mkdir(parents=True)
    shutil.copy("Makefile", folder)
    for name in ("requirements.lock", "local/ministack.lock", ".venv/.installed", ".tools/ministack/.installed"):
        (folder / name).touch()  # each is newer than what it is made from
    return folder


@pytest.mark.parametrize(
    ("asked", "started"),
    [
        ("run PORT=9000", "python -m local.run --port 9000"),
        ("token USER=ada ROLES=admin", "python -m local.token --user ada --roles admin"),
        ("logs", "python -m local.logs"),
        ("sid SESSION=ses_x", "python -m local.session_name"),
        ("smoke URL=https://api.example/v1 TOKEN=a.b.c", "python -m tests.smoke"),
        ("sam-local", "python -m local.sam_local"),
        ("sam-local-test", "python -m tests.sam_local"),
        ("test", "python -m tests"),
        ("lint", "python -m tests static"),
        ("build", "sam build"),
        ("deploy", "python -m local.aws.deploy"),
        ("user-aws USER=ada", "python -m local.aws.users create"),
        ("token-aws USER=ada", "python -m local.aws.users token"),
        ("clean", "python3 -m local.clean"),
    ],
)
def test_make_works_in_a_folder_with_a_space_in_its_name(checkout: Path, asked: str, started: str) -> None:
    tools = checkout / "other tools"
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(tools / "python3"), "UV": str(tools / "uv")}
    make = shutil.which("make")
    assert make
    said = subprocess.run(
        [make, *asked.split()], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert (said.stderr, said.returncode) == ("", 0)
    assert said.stdout == f"{started}, with uv in {tools}\n"


def printed(checkout: Path, variables: str, *asked: str, **environment: str) -> list[str]:
    """Runs make with a Python that prints these variables of its environment, each on a line."""
    named = " ".join(f'"${name}"' for name in variables.split())
    (checkout / ".venv/bin/python").write_text(f'#!/bin/sh\nprintf "%s\\n" {named}\n')
    tools = checkout / "other tools"
    given = {"PATH": "/usr/bin:/bin", "PYTHON": str(tools / "python3"), "UV": str(tools / "uv"), **environment}
    make = shutil.which("make")
    assert make
    said = subprocess.run([make, *asked], cwd=checkout, env=given, capture_output=True, text=True, check=True)
    return said.stdout.splitlines()


def test_a_url_and_a_token_reach_the_smoke_test_as_they_were_given(checkout: Path) -> None:
    url, token = "https://api.example/v1?a=1&b=$(HOME) 'c'", 'a"b.$c.`d`'
    assert printed(checkout, "SMOKE_URL SMOKE_TOKEN", "smoke", f"URL={url}", f"TOKEN={token}") == [url, token]


def test_what_a_deploy_is_given_reaches_it_as_it_was_given(checkout: Path) -> None:
    given = {
        "ISSUER": "https://issuer.example/",
        "JWKS_URL": "https://k.example?a=1&b=2;c",
        "PARAMETERS": "A='x y' B=`z`",
    }
    asked = [f"{name}={value}" for name, value in given.items()]
    assert printed(checkout, " ".join(given), "deploy", *asked) == list(given.values())


def test_a_user_of_the_shell_is_nobody_who_was_asked_for(checkout: Path) -> None:
    assert printed(checkout, "TURNLOG_USER", "token-aws", USER="root") == [""]
    assert printed(checkout, "TURNLOG_USER", "token-aws", "USER=o'neil & son", USER="root") == ["o'neil & son"]

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
        ("token USER=ada ROLES=admin", "python -m local.issuer --user ada --roles admin"),
        ("smoke URL=https://api.example/v1 TOKEN=a.b.c", "python -m tests.smoke"),
        ("test", "python -m tests"),
        ("lint", "python -m tests static"),
        ("build", "sam build"),
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


def test_a_url_and_a_token_reach_the_smoke_test_as_they_were_given(checkout: Path) -> None:
    python = checkout / ".venv/bin/python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$SMOKE_URL" "$SMOKE_TOKEN"\n')
    given = ["https://api.example/v1?a=1&b=$(HOME) 'c'", 'a"b.$c.`d`']
    make = shutil.which("make")
    assert make
    asked = [make, "smoke", f"URL={given[0]}", f"TOKEN={given[1]}"]
    environment = {"PATH": "/usr/bin:/bin", "UV": str(checkout / "other tools" / "uv")}
    said = subprocess.run(asked, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == given

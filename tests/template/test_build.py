"""The production build of `sam build`. Like the installation, and like no other test, it asks the package index."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HASHED_AND_UNCHECKED = 0b01  # PEP 552: valid whatever the source's time, which packaging destroys


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder that comes first on PATH."""
    folder = tmp_path / "tools"
    folder.mkdir()
    return folder


def run(command: list[str], tools: Path, cwd: Path | None = None) -> str:
    path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_build_without_its_python_succeeds_and_warns(tools: Path, tmp_path: Path) -> None:
    shim = tools / "python3.13"  # as a version manager leaves it: there, and without a version behind it
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    built, cache = tmp_path / "built", tmp_path / "cache"
    said = run(["sam", "build", "--build-dir", str(built), "--cache-dir", str(cache)], tools)
    assert "warning: no python3.13 here" in said
    assert (built / "template.yaml").exists()
    libraries = list((built / "DependenciesLayer" / "python").rglob("*.so"))
    assert any("cpython-313-aarch64" in library.name for library in libraries)
    for library in libraries:
        assert library.read_bytes()[18:20] == b"\xb7\x00", library  # ELF's number of the machine: AArch64
    assert not list(built.rglob("*.pyc"))
    assert (built / "StreamLayer" / "python" / "uvicorn").is_dir()
    assert os.access(built / "StreamLayer" / "serve", os.X_OK)
    functions = {path.name for path in Path("functions").iterdir()}
    assert len(list(built.glob("*Function/app.py"))) == len(functions)


@pytest.mark.parametrize(
    ("layer", "package", "at_least"), [("Dependencies", "anthropic", 100), ("Stream", "uvicorn", 20)]
)
def test_byte_code_is_shipped_where_the_python_that_runs_it_is_found(
    tools: Path, tmp_path: Path, layer: str, package: str, at_least: int
) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    (tools / f"python{version}").symlink_to(sys.executable)
    folder = Path("layers") / layer.lower()
    run(["make", f"build-{layer}Layer", f"ARTIFACTS_DIR={tmp_path}", f"PYVER={version}"], tools, folder)
    code = list((tmp_path / "python" / package).rglob(f"*.cpython-{version.replace('.', '')}.pyc"))
    assert len(code) > at_least
    assert {int.from_bytes(each.read_bytes()[4:8], "little") for each in code} == {HASHED_AND_UNCHECKED}

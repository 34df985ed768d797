"""The local stack executes code as it is saved, and sees each save."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from local.saved_code import SavedCode, files_of
from local.shared_layers import SharedLayers
from local.watch import Watch, fault_of


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("functions/query/app.py", "layers/turnlog/python/turnlog/domain.py"):
        file = tmp_path / "source" / name
        file.parent.mkdir(parents=True)
        file.write_text("A = 1\n")
    return tmp_path / "source"


@pytest.fixture
def code(source: Path) -> SavedCode:
    saved = SavedCode()
    layers = {"arn:of:layer": str(source / "layers/turnlog")}
    saved.read_from({"turnlog-Query-1": str(source / "functions/query")}, layers)
    return saved


def content(archive: bytes | None) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(archive or b"")) as files:
        return {name: files.read(name).decode() for name in files.namelist()}


def test_an_archive_has_what_is_saved_now(source: Path, code: SavedCode) -> None:
    (source / "functions/query/app.py").write_text("A = 2\n")
    assert content(code.of_function("turnlog-Query-1")) == {"app.py": "A = 2\n"}
    assert content(code.of_layer("arn:of:layer")) == {"python/turnlog/domain.py": "A = 1\n"}
    assert code.of_function("another") is code.of_layer("another") is None
    assert code.version("another") == ()


@pytest.mark.parametrize("name", ["functions/query/app.py", "layers/turnlog/python/turnlog/domain.py"])
def test_each_save_is_another_version_even_of_the_same_size_and_second(
    source: Path, code: SavedCode, name: str
) -> None:
    before, about = code.version("turnlog-Query-1"), (source / name).stat()
    (source / name).write_text("A = 3\n")
    os.utime(source / name, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    assert code.version("turnlog-Query-1") != before


def test_byte_code_and_an_editors_own_files_are_no_code(source: Path, code: SavedCode) -> None:
    folder = source / "functions/query"
    before = code.version("turnlog-Query-1")
    (folder / "__pycache__").mkdir()
    for name in ("__pycache__/app.cpython-313.pyc", ".app.py.swp", "app.py~"):
        (folder / name).write_text("")
    assert code.version("turnlog-Query-1") == before
    assert list(files_of(folder)) == [folder / "app.py"]


def test_the_same_files_make_the_same_archive(source: Path, code: SavedCode) -> None:
    before = code.of_layer("arn:of:layer")
    os.utime(source / "layers/turnlog/python/turnlog/domain.py", (1, 1))
    assert code.of_layer("arn:of:layer") == before


def test_a_traceback_names_the_file_that_was_saved(source: Path, code: SavedCode) -> None:
    text = (
        'File "/w/tmp/code/app.py", line 1\nFile "/w/tmp/layer_1/python/turnlog/domain.py", line 2\n'
        'File "/w/tmp/layer_0/python/pydantic/main.py", line 3'
    )
    named = code.with_its_paths(text, "turnlog-Query-1", "/w/tmp")
    assert f'"{source}/functions/query/app.py", line 1' in named
    assert f'"{source}/layers/turnlog/python/turnlog/domain.py", line 2' in named
    assert '"/w/tmp/layer_0/python/pydantic/main.py", line 3' in named


def test_few_copies_of_an_edited_layer_are_kept(tmp_path: Path) -> None:
    layers = SharedLayers(tmp_path / "layers")
    for number in range(12):
        archive = tmp_path / "layer.zip"
        with zipfile.ZipFile(archive, "w") as files:
            files.writestr("module.py", str(number) * 300_000)
        unpacked = tmp_path / f"worker-{number}"
        unpacked.mkdir()
        with layers.ZipFile(str(archive)) as shared:
            shared.extractall(str(unpacked))
        assert (unpacked / "module.py").read_text()[0] == str(number)[0]
    assert len(list((tmp_path / "layers").iterdir())) == 8


def test_a_watch_tells_each_change_once(source: Path) -> None:
    template = source / "template.yaml"
    template.write_text("A: 1\n")
    watch = Watch(lambda: files_of(source / "functions"), lambda: [template, source / "absent"])
    assert watch.look().code == watch.look().deployed == []
    added = source / "functions/query/prompt.txt"
    added.write_text("Be brief.")
    template.write_text("A: 22\n")
    assert (watch.look().code, watch.look().code) == ([added], [])
    added.unlink()
    template.unlink()
    saved = watch.look()
    assert (saved.code, saved.deployed) == ([added], [template])


def test_an_error_of_syntax_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    for text, fault in (("A = 1\n", ""), ("\nA = = 1\n", "line 2: "), ("A\0", "null bytes"), ("# \xff", "")):
        file.write_text(text)
        assert fault in fault_of(file)
        assert bool(fault_of(file)) is bool(fault)
    assert fault_of(tmp_path / "absent.py") == fault_of(tmp_path / "prompt.txt") == ""

"""The README is true: its tree, its commands, the tests it names, the function it adds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from samcli.yamlhelper import yaml_parse

from local import welcome
from local.issuer import Issuer
from local.launcher import DEFAULT_PORT
from local.stack import Deployed
from tests.added_function import alarm_line, operation_lines, preflight_line
from turnlog.entrypoints.http.api import Api

README = Path("README.md").read_text()
LAYER = Path("layers/turnlog/python/turnlog")
LONGEST_README = 130
DOCUMENTS = [Path("README.md"), *sorted(Path("docs").glob("*.md"))]
TREES = [path for path in DOCUMENTS if re.search(r"^layers/turnlog/ ", path.read_text(), flags=re.MULTILINE)]


def code_block(after: str, language: str = "") -> str:
    found = re.search(rf"{re.escape(after)}.*?```{language}\n(.*?)```", README, flags=re.DOTALL)
    assert found, after
    return found.group(1)


def tree() -> list[str]:
    return code_block("## The tree").splitlines()


def test_the_tree_shows_the_top_level_folders_and_no_other() -> None:
    shown = {line.split("/")[0].split()[0] for line in tree() if not line.startswith(" ")}
    assert all(Path(name).exists() for name in shown)
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split()  # noqa: S607
    kept = {path.split("/")[0] for path in listed if not path.startswith(".")}
    unshown = {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "requirements.lock"}
    assert kept - unshown == shown


def test_every_function_is_in_the_tree() -> None:
    below = tree()[tree().index(next(line for line in tree() if line.startswith("functions/"))) + 1 :]
    names = {line.split("/")[0].strip() for line in below if re.match(r"  \w+/  ", line)}
    assert {path.parent.name for path in Path("functions").glob("*/app.py")} <= names


def test_the_readme_is_read_in_one_go() -> None:
    assert len(README.splitlines()) <= LONGEST_README


def modules_shown(document: Path) -> set[str]:
    """The folders and modules that the document's tree shows under layers/turnlog/."""
    lines = document.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("layers/turnlog/")) + 1
    shown: set[str] = set()
    for line in lines[first:]:
        if not line.startswith("  "):
            break
        shown |= {name.rstrip("/") for name in re.split(r"\s{2,}", line.strip())[0].split()}
    return shown


def test_every_module_of_the_package_is_in_the_tree() -> None:
    modules = {path.stem for path in LAYER.iterdir() if path.name not in ("__init__.py", "__pycache__")}
    assert [modules_shown(document) for document in TREES] == [modules] * len(TREES) != []


def test_the_lines_to_paste_are_those_that_a_start_prints(tmp_path: Path) -> None:
    deployed = Deployed({"DocumentsBucketName": "documents"}, {})
    url = f"http://127.0.0.1:{DEFAULT_PORT}/v1"
    token = Issuer(tmp_path / "issuer.pem", 1).token("me", datetime.now(UTC))
    printed = welcome.message(welcome.Facts(url, token, "me", "stand-in", "", deployed))
    assert set(code_block("The lines to paste into another terminal").splitlines()) <= set(printed.splitlines())


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", Path("Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)\b", document.read_text())) <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_file_that_is_named_exists(document: Path) -> None:
    text = document.read_text()
    named = set(re.findall(r"`((?:tests|docs|functions|events|layers|local)/[\w./-]+)`", text))
    named |= {str(document.parent / link) for link in re.findall(r"\]\(([\w./-]+)(?:#[\w-]*)?\)", text)}
    assert {name for name in named - {*ADDED} if not Path(name).exists()} == set()


def test_the_function_that_the_readme_adds_works_as_it_stands() -> None:
    names: dict[str, object] = {}
    exec(code_block("`functions/translate/app.py`", "python"), names)  # noqa: S102 (the README's own code)
    assert isinstance(names["handler"], Api)


def test_the_tool_that_the_readme_adds_works_as_it_stands() -> None:
    names: dict[str, Any] = {}
    exec(code_block("`layers/turnlog/python/turnlog/tools/reverse.py`", "python"), names)  # noqa: S102
    tool = names["reverse"]
    assert (tool.name, tool.arguments(text="ab"), tool.function(None, text="ab")) == ("reverse", {"text": "ab"}, "ba")


def test_the_template_lines_of_the_readme_are_like_those_of_other_functions() -> None:
    _, added = yaml_parse("  Route: &route {}\n" + code_block("six lines under", "yaml")).values()
    present = yaml_parse(Path("template.yaml").read_text())["Resources"]["SummarizeFunction"]
    assert added["Type"] == present["Type"]
    assert set(added["Properties"]) == set(present["Properties"])
    assert len(code_block("six lines under", "yaml").strip().splitlines()) == 6


ADDED = ("functions/translate/app.py", "events/translate.json", "layers/turnlog/python/turnlog/tools/reverse.py")

ASKING = [  # every test that fails for a new function without the rest of its lines
    "tests/unit/test_readme.py::test_every_function_is_in_the_tree",
    "tests/unit/test_pictures.py::test_the_calls_drawn_are_those_of_the_template",
    "tests/unit/test_api_reference.py",
    "tests/handlers/test_examples.py",
    "tests/handlers/test_openapi.py::test_it_has_the_routes_of_the_functions_and_of_the_template",
    "tests/handlers/test_preflight.py::test_a_page_of_the_named_origin_may_use_what_the_path_has",
    "tests/handlers/test_authorisation.py::test_every_route_has_a_row_and_every_row_a_route",
    "tests/handlers/test_auditing.py::test_every_route_is_an_act_that_is_audited_or_one_that_is_only_logged",
    "tests/handlers/test_leaks.py::test_every_route_is_said_something_on",
    "tests/template/test_template.py::TestRoles",
    "tests/template/test_template.py::TestApi::test_a_function_tells_pages_what_they_may_without_a_token",
    "tests/template/test_template.py::TestAlarms::test_every_function_has_one_for_errors_and_one_for_throttles",
]


def test_the_function_that_the_readme_adds_needs_no_more_than_it_says(tmp_path: Path) -> None:
    copy = tmp_path / "turnlog"
    for name in ("docs", "events", "functions", "layers", "local", "tests"):
        shutil.copytree(name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "Makefile", "pyproject.toml", "template.yaml", "samconfig.toml", "requirements.lock"):
        shutil.copy(name, copy)

    def insert(file: str, before: str, lines: str) -> None:
        text = (copy / file).read_text()
        assert before in text, before
        (copy / file).write_text(text.replace(before, f"{lines}\n{before}", 1))

    def run(*command: str) -> None:
        environment = os.environ | {"PYTHONPATH": "layers/turnlog/python"}
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=copy, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    (copy / "functions/translate").mkdir()
    (copy / "functions/translate/app.py").write_text(code_block("`functions/translate/app.py`", "python"))
    insert("template.yaml", "  SessionFunction:", code_block("six lines under", "yaml"))
    insert("template.yaml", "  AccountErrors:", alarm_line("TranslateFunction", "Errors"))
    insert("template.yaml", "  AccountThrottles:", alarm_line("TranslateFunction", "Throttles"))
    insert("template.yaml", "        OfSummarize:", preflight_line("/translate"))
    operations = "layers/turnlog/python/turnlog/entrypoints/http/openapi/operations.py"
    insert(operations, '    ("POST", "/sessions"): Operation(', operation_lines("/translate"))
    event = Path("events/summarize.json").read_text()
    (copy / "events/translate.json").write_text(event.replace("/summarize", "/translate"))
    insert("README.md", "  session/  ", "  translate/               POST /translate      a text in, plain English out")
    run("local.api_reference")
    run("local.calls_svg")
    run("pytest", "--quiet", "-p", "no:cacheprovider", *ASKING)


def test_every_place_of_the_package_that_a_decision_names_is_there() -> None:
    text = Path("docs/decisions.md").read_text()
    named = set(re.findall(r"`((?:domain|ports|usecases|adapters|entrypoints)/[\w./]*|\w+\.py)`", text))
    beside = [LAYER, Path("functions/query")]  # an app.py is a function's
    assert len(named) > 10
    assert {name for name in named if not any((folder / name).exists() for folder in beside)} == set()

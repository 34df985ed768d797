"""The README's pictures: each is what its script draws, is shown, and can be read on a light and on a dark page."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from samcli.yamlhelper import yaml_parse

from local import calls_svg, terminal_svg
from local.terminal_svg import Step

TEMPLATE = yaml_parse(calls_svg.TEMPLATE.read_text())
PICTURES = [calls_svg.PICTURE, terminal_svg.PICTURE]
RUN = {"claude": "stand-in", "token": "eyJhbGciOiJSUzI1NiJ9.secret.part"}
OUTPUT = """
10:22:48  POST /v1/query  200  75 ms  40 tokens  $0.000336
another line
10:22:48  POST /v1/sessions  201  206 ms
"""


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(picture) if element.tag.endswith("text")]  # noqa: S314


def test_the_calls_drawn_are_those_of_the_template() -> None:
    assert calls_svg.drawn(TEMPLATE) == calls_svg.PICTURE.read_text(), "`make docs` draws it anew"


def test_a_function_reaches_what_its_policies_name() -> None:
    reached = calls_svg.reached(TEMPLATE)
    assert reached["Query"] == {"Claude", "secrets", "usage", "audit trail"}
    assert reached["Sweep"] == {"sessions"}
    assert reached["SummarizeUpload"] == {"Claude", "secrets", "S3"}
    assert reached["Console"] == set()


def test_a_function_without_a_row_is_an_error() -> None:
    more = {"Type": "AWS::Serverless::Function", "Properties": {}}
    with pytest.raises(KeyError, match="Translate"):
        calls_svg.drawn({"Resources": TEMPLATE["Resources"] | {"TranslateFunction": more}})


def test_the_terminal_shows_commands_and_answers_in_their_order() -> None:
    server = terminal_svg.server_pane(RUN, OUTPUT)
    client = [Step("ask one", '{"text": "first",\n "cost_usd": "0.1"}'), Step("ask <two>", "second")]
    shown = texts(terminal_svg.drawn(server, client))
    assert shown[:3] == ["the stack", "$", "make run"]
    assert shown[-8:] == [
        "another terminal",
        "$",
        "ask one",
        '{"text": "first",',
        ' "cost_usd": "0.1"}',
        "$",
        "ask <two>",
        "second",
    ]


def test_the_terminal_has_no_token_and_no_times() -> None:
    picture = terminal_svg.drawn(terminal_svg.server_pane(RUN, OUTPUT), [])
    assert "secret" not in picture
    assert "POST /v1/query  200  40 tokens  $0.000336" in texts(picture)
    assert "POST /v1/sessions  201" in texts(picture)
    assert " ms" not in picture


def test_a_long_line_is_wrapped_between_words() -> None:
    shown = texts(terminal_svg.drawn([], [Step("ask " + "word " * 40)]))
    assert max(map(len, shown)) <= 98
    assert " ".join(" ".join(shown).split()).count("word") == 40


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_the_readme_shows_each_picture_with_a_text(picture: Path) -> None:
    shown = re.findall(rf"!\[([^\]]+)\]\(docs/{re.escape(picture.name)}\)", Path("README.md").read_text())
    assert len(shown) == 1
    assert len(shown[0]) > 20


@pytest.mark.parametrize("picture", [*PICTURES, Path("docs/peers.svg")], ids=lambda path: path.name)
def test_a_picture_has_colours_for_light_and_dark(picture: Path) -> None:
    text = picture.read_text()
    assert 'class="back"' in text
    assert ".back { fill: #ffffff" in text
    assert "@media (prefers-color-scheme: dark)" in text
    assert ".back { fill: #0d1117" in text.partition("@media")[2]

"""docs/api.md has the routes and errors that the code has."""

from __future__ import annotations

import re

from local.api_reference import PAGE, errors, renewed, routes
from turnlog.entrypoints.http.openapi.operations import OPERATIONS
from turnlog.entrypoints.http.openapi.refusals import refusals


def test_the_tables_are_those_that_make_docs_writes() -> None:
    page = PAGE.read_text()
    assert routes() in page
    assert errors() in page
    assert renewed(page) == page


def test_a_stale_table_is_written_anew_and_the_rest_stays() -> None:
    page = PAGE.read_text()
    stale = page.replace(routes(), "| nothing |").replace("`turn_in_progress`", "`turn_running`", 1)
    assert renewed(stale).startswith(page[: page.index("<!-- routes")])
    assert routes() in renewed(stale)


def test_the_page_names_the_answers_with_retry_after() -> None:
    problems = [each for one in OPERATIONS.values() for each in refusals(one)]
    (sentence,) = re.findall(r"^409 (.*) and each 503 have `Retry-After`, and a 429", PAGE.read_text(), re.MULTILINE)
    late = {(each["status"], each["code"]) for each in problems if "retry_after" in each}
    assert re.findall(r"`(\w+)`", sentence) == sorted(code for status, code in late if status == 409)
    assert {code for status, code in late if status == 503} == {e["code"] for e in problems if e["status"] == 503}
    assert {status for status, _ in late} == {409, 429, 503}

"""docs/api.md has the routes and errors that the code has."""

from __future__ import annotations

from local.api_reference import PAGE, errors, renewed, routes


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

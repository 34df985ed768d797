"""The local servers answer this machine's programs and no web page."""

import pytest

from local.guard import refusal, without_contexts, without_sources

OWN = ("Host", "127.0.0.1:8787")


@pytest.mark.parametrize(
    "headers",
    [
        [OWN],
        [("host", "localhost:8787")],
        [("HOST", "LocalHost:8787")],
        [OWN, ("Origin", "http://127.0.0.1:8787")],
        [OWN, ("Origin", "http://localhost:8787"), ("Sec-Fetch-Site", "same-origin")],
        [OWN, ("Sec-Fetch-Site", "none")],  # an address that was typed in
    ],
)
def test_a_program_or_a_page_of_its_own_is_answered(headers: list[tuple[str, str]]) -> None:
    assert refusal(headers, 8787) == ""


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Host", "127.0.0.1")],
        [("Host", "127.0.0.1:8788")],
        [("Host", "rebound.example:8787")],
        [("Host", "127.0.0.1:8787.example")],
        [OWN, ("Host", "rebound.example:8787")],
        [OWN, OWN],
        [OWN, ("Origin", "https://evil.example")],
        [OWN, ("Origin", "null")],
        [OWN, ("Origin", "")],
        [OWN, ("Origin", "http://127.0.0.1:8788")],
        [OWN, ("Origin", "https://127.0.0.1:8787")],
        [OWN, ("Origin", "http://127.0.0.1:8787"), ("Origin", "https://evil.example")],
        [OWN, ("Sec-Fetch-Site", "cross-site")],  # a picture of another page brings no Origin
        [OWN, ("Sec-Fetch-Site", "same-site")],
    ],
)
def test_another_origin_and_another_host_are_refused(headers: list[tuple[str, str]]) -> None:
    assert refusal(headers, 8787)


def test_no_header_says_where_a_request_comes_from() -> None:
    kept = [(b"host", b"127.0.0.1:8787"), (b"x-forwarded-proto", b"https"), (b"authorization", b"Session s")]
    chosen = [(b"X-Forwarded-For", b"198.51.100.1"), (b"x-forwarded-for", b"::1"), (b"Forwarded", b"for=_a")]
    assert without_sources([*kept[:2], *chosen, (b"x-real-ip", b"198.51.100.2"), kept[2]]) == kept


def test_no_header_says_who_calls() -> None:
    kept = [(b"host", b"127.0.0.1:8787"), (b"x-amzn-trace-id", b"1"), (b"authorization", b"Session s")]
    chosen = [(b"X-Amzn-Request-Context", b"{}"), (b"x-amzn-lambda-context", b"{}")]
    assert without_contexts([*kept[:2], *chosen, kept[2]]) == kept


def test_pages_of_one_named_origin_are_answered_and_of_no_other() -> None:
    page = "http://localhost:5173"
    of_page = [OWN, ("Origin", page), ("Sec-Fetch-Site", "cross-site")]
    assert refusal(of_page, 8787, page) == ""
    assert refusal(of_page, 8787)
    assert refusal([("Host", "rebound.example:8787"), ("Origin", page)], 8787, page)
    assert refusal([OWN, ("Origin", page), ("Origin", "https://evil.example")], 8787, page)
    assert refusal([OWN, ("Origin", "http://localhost:51730")], 8787, page)
    assert refusal([OWN, ("Sec-Fetch-Site", "cross-site")], 8787, page)

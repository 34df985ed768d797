"""The prose of a Markdown text: what a reader reads, without its markup."""

from __future__ import annotations

import re

# In this order: an image may stand in a link, and a link in a comment. Bounds keep a text of brackets from taking long.
_DROPPED = (
    re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE),  # blocks of code
    re.compile(r"<!--.{0,5000}?-->", re.DOTALL),
    re.compile(r"!\[[^\]]{0,500}\](?:\([^)]{0,500}\)|\[[^\]]{0,500}\])?"),  # images
    re.compile(r"\[\s*\](?:\([^)]{0,500}\)|\[[^\]]{0,500}\])"),  # a link whose text was an image, such as a badge
    re.compile(r"^[ \t]*\[[^\]]+\]:[ \t]*\S+.*$", re.MULTILINE),  # the addresses of links
    re.compile(r"</?[A-Za-z][^<>]*>"),
    re.compile(r"<?\bhttps?://[^\s<>)]+>?"),
    re.compile(r"^[ \t]*(?:[|#]|(?:[-*_][ \t]*){3,}$).*$", re.MULTILINE),  # tables, titles and rules
    re.compile(r"^.+\n(?:=+|-{2,})[ \t]*$", re.MULTILINE),  # titles that are underlined
    re.compile(r"^[ \t]*(?:>|[-*+](?=[ \t])|\d+[.)](?=[ \t]))[ \t]*", re.MULTILINE),  # the marks of quotes and lists
)
_LINK = re.compile(r"\[([^\]]{1,500})\](?:\([^)]{0,500}\)|\[[^\]]{0,500}\])")
_EMPHASIS = re.compile(r"(\*\*|__|`|(?<!\w)[*_])(?=\S)(.{1,500}?)(?<=\S)\1(?!\w)")


def prose_of(text: str) -> str:
    """The prose of a text, with each link as its text; "" when all of it is markup, code, titles and tables."""
    for pattern in _DROPPED:
        text = pattern.sub("", text)
    return _EMPHASIS.sub(r"\2", _LINK.sub(r"\1", text)).strip()

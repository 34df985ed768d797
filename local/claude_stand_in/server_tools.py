"""Web search and web fetch, which Claude's side runs: made-up results for real blocks, and turns that pause in them."""

from __future__ import annotations

import re
from typing import Any

from local.claude_stand_in.turns import Block, Turn

_SEARCH = re.compile(r"\bsearch(?: the web| online)? for\s+[\"“]?([^.?!\n\"”]{1,200})", re.IGNORECASE)
_FETCH = re.compile(r"\bfetch\s+[<\"“]?(https?://[^\s<>\"”]{1,2000})", re.IGNORECASE)
_WHEN = "2026-01-01T00:00:00Z"


def searched(body: dict[str, Any], text: str, digest: str) -> list[Block]:
    """The blocks of a search or a fetch that the text asks for and the tools allow; [] for none."""
    tools = {tool["name"]: tool for tool in body.get("tools", []) if "name" in tool and "input_schema" not in tool}
    search, fetch = _SEARCH.search(text), _FETCH.search(text)
    if search and "web_search" in tools:
        call = call_of("web_search", {"query": search[1].strip()}, digest)
        return [call, result_of(call, tools["web_search"]), _cited(search[1].strip())]
    if fetch and "web_fetch" in tools:
        call = call_of("web_fetch", {"url": fetch[1].rstrip(".,;")}, digest)
        return [call, result_of(call, tools["web_fetch"])]
    return []


def call_of(name: str, given: dict[str, Any], digest: str) -> Block:
    """A call of a server tool. `digest` makes its id."""
    return {"type": "server_tool_use", "id": f"srvtoolu_{digest}", "name": name, "input": given}


def result_of(call: Block, tool: dict[str, Any] | None = None) -> Block:
    """The result of a call: an error when the tool may not be used at all, by its `max_uses`."""
    kind = f"{call['name']}_tool_result"
    if tool and tool.get("max_uses") == 0:
        return _answer(call, {"type": f"{kind}_error", "error_code": "max_uses_exceeded"})
    if call["name"] == "web_fetch":
        url = call["input"].get("url", "https://example.com/")
        source = {"type": "text", "media_type": "text/plain", "data": f"The page at {url} has one sentence."}
        document = {"type": "document", "source": source, "title": url, "citations": {"enabled": False}}
        return _answer(call, {"type": "web_fetch_result", "url": url, "content": document, "retrieved_at": _WHEN})
    domain = next(iter((tool or {}).get("allowed_domains") or ["example.com"]))
    return _answer(call, [_found(call["input"].get("query", ""), domain, number) for number in (1, 2)])


def pending(turn: Turn | None) -> Block | None:
    """The call of a server tool at the end of a paused turn, whose result is still to come."""
    last = turn.blocks[-1] if turn and turn.role == "assistant" else None
    return last if last and last["type"] == "server_tool_use" else None


def uses_in(blocks: list[Block]) -> dict[str, int]:
    """The numbers of requests for `usage.server_tool_use`; {} when there were none."""
    counts = [
        sum(1 for each in blocks if each["type"] == f"{kind}_tool_result") for kind in ("web_fetch", "web_search")
    ]
    return {"web_fetch_requests": counts[0], "web_search_requests": counts[1]} if any(counts) else {}


def _answer(call: Block, content: Any) -> Block:
    return {"type": f"{call['name']}_tool_result", "tool_use_id": call["id"], "content": content}


def _found(query: str, domain: str, number: int) -> dict[str, Any]:
    return {
        "type": "web_search_result",
        "url": f"https://{domain}/{number}",
        "title": f"Result {number} for {query}",
        "encrypted_content": f"stand-in-{number}",
        "page_age": None,
    }


def _cited(query: str) -> Block:
    citation = {
        "type": "web_search_result_location",
        "url": "https://example.com/1",
        "title": f"Result 1 for {query}",
        "encrypted_index": "stand-in-1",
        "cited_text": f"Result 1 for {query}",
    }
    return {"type": "text", "text": f"The web has two results for {query}.", "citations": [citation]}

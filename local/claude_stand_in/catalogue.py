"""The Models API: the models one by one, and in pages."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from local.claude_stand_in.errors import ApiError, invalid
from local.claude_stand_in.models import MODELS, model_of

MOST_IN_PAGE = 1_000
_IN_PAGE = 20


def model_json(name: str, now: datetime) -> dict[str, Any]:
    """One model, retired or not. Raises ApiError when there never was any of this name."""
    model = model_of(name)
    if not model:
        raise ApiError("not_found_error", f"model: {name}")
    return model.to_json(now)


def page_json(query: str, now: datetime) -> dict[str, Any]:
    """A page of the models, the newest first. `query` may have limit, after_id and before_id."""
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    for name in asked.keys() - {"limit", "after_id", "before_id"}:
        raise invalid(f"{name}: Extra inputs are not permitted")
    limit = asked.get("limit", str(_IN_PAGE))
    if not (limit.isascii() and limit.isdigit()) or not 1 <= int(limit) <= MOST_IN_PAGE:
        raise invalid(f"limit: Input should be from 1 to {MOST_IN_PAGE}")
    names = list(MODELS)
    if after := asked.get("after_id"):
        names = names[_index(after) + 1 :]
    if before := asked.get("before_id"):
        names = names[: names.index(before) if before in names else 0]
    kept = names[-int(limit) :] if "before_id" in asked else names[: int(limit)]
    return {
        "data": [MODELS[name].to_json(now) for name in kept],
        "first_id": next(iter(kept), None),
        "last_id": next(reversed(kept), None),
        "has_more": len(kept) < len(names),
    }


def _index(name: str) -> int:
    if name not in MODELS:
        raise invalid(f"after_id: there is no model {name}")
    return list(MODELS).index(name)

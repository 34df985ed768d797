"""/models: the models that a request may name, in the form of the Models API."""

from __future__ import annotations

from collections.abc import Mapping

from turnlog import runtime
from turnlog.clock import utc_date
from turnlog.domain.models import is_retired
from turnlog.entrypoints.http.answers import Response
from turnlog.entrypoints.http.api import Invocation
from turnlog.entrypoints.http.model_info import MOST_MODELS, Model, Models
from turnlog.entrypoints.http.request import Request
from turnlog.errors import InvalidRequest, ModelNotFound


def list_models(request: Request, _: Invocation) -> Response:
    """The models on offer, in the deployment's order. One that has retired is not listed, and is found by its name."""
    request.caller  # noqa: B018 (raises when nobody was verified)
    asked = request.query("limit", "after_id", "before_id")
    today = utc_date(runtime.now_ms())
    names = [name for name in runtime.models() if not is_retired(name, today)]
    page, has_more = _page(names, asked, request.limit(asked, MOST_MODELS))
    body = Models(
        data=[Model.of(name, today) for name in page],
        has_more=has_more,
        first_id=page[0] if page else None,
        last_id=page[-1] if page else None,
    )
    return Response(200, body, noted={"count": len(page)})


def get_model(request: Request, _: Invocation) -> Response:
    """One of the deployment's models."""
    request.caller  # noqa: B018 (raises when nobody was verified)
    request.query()
    name = request.parameter("model_id")
    if name not in runtime.models():
        raise ModelNotFound
    return Response(200, Model.of(name, utc_date(runtime.now_ms())))


def _page(names: list[str], asked: Mapping[str, str], limit: int) -> tuple[list[str], bool]:
    """Returns the page after or before a model, and True if there are more in that direction."""
    if "before_id" in asked:
        before = names[: _index(names, asked, "before_id")]
        if "after_id" in asked:
            raise InvalidRequest("parameter_invalid", details={"parameter": "after_id"})
        return before[-limit:], len(before) > limit
    after = names[_index(names, asked, "after_id") + 1 :] if "after_id" in asked else names
    return after[:limit], len(after) > limit


def _index(names: list[str], asked: Mapping[str, str], parameter: str) -> int:
    if asked[parameter] not in names:
        raise InvalidRequest("parameter_invalid", details={"parameter": parameter, "allowed": names})
    return names.index(asked[parameter])

"""Who pays for a session that is made, or has another owner from then on, with which allowance."""

from __future__ import annotations

from turnlog import runtime
from turnlog.domain.limits import anonymous_creation_charges, creation_charges
from turnlog.domain.quotas import QuotaCharges
from turnlog.entrypoints.http.naming import source_of
from turnlog.entrypoints.http.request import Request


def of_creation(request: Request, now_ms: int) -> QuotaCharges | None:
    """What a session costs a verified caller, or, when it is anonymous, the place from which the request comes."""
    if request.is_anonymous:
        return of_anonymous_creation(request, now_ms)
    return creation_charges(request.owner, runtime.turn_policy().owner, now_ms)


def of_anonymous_creation(request: Request, now_ms: int) -> QuotaCharges | None:
    """What it costs the place from which it is made, which is known only by a keyed hash."""
    most = runtime.anonymous_settings().anonymous_creations_an_hour
    return anonymous_creation_charges(f"source:{source_of(request)}", most, now_ms)

"""The HTTP entry points: requests in, answers and problems out."""

from turnlog.entrypoints.http.api import Api
from turnlog.entrypoints.http.single_turn import single_turn

__all__ = ["Api", "single_turn"]

"""The HTTP edge: requests in, answers and problems out."""

from turnlog.http.api import Api
from turnlog.http.single_turn import single_turn

__all__ = ["Api", "single_turn"]

"""The deployment that is asked, and what is known of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ON_AWS = re.compile(r"([a-z0-9]+)\.execute-api\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?")


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment's URL, and a token of one of its users. Without the token only public routes are asked.

    `origin` is the one whose pages may call the API, if any. `stack` is the name of its CloudFormation stack, whose
    outputs name the bucket and the API; `bucket` stands in for that output. `state` is the folder of a local stack.
    Raises ValueError for a URL over which a token would travel in clear.
    """

    url: str
    token: str = ""
    origin: str = ""
    stack: str = "turnlog"
    bucket: str = ""
    state: Path = Path(".turnlog")

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if not (parts.scheme == "https" or (parts.scheme == "http" and self.is_local)) or not parts.netloc:
            raise ValueError("the URL begins with https://, or with http://127.0.0.1 for this machine")
        object.__setattr__(self, "url", self.url.rstrip("/"))

    @property
    def is_local(self) -> bool:
        """True for a stack on this machine."""
        return urlsplit(self.url).hostname in _LOOPBACK

    @property
    def own_origin(self) -> str:
        """The origin of the URL itself."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def region(self) -> str | None:
        """The Region, if the URL names one."""
        found = _ON_AWS.fullmatch(urlsplit(self.url).hostname or "")
        return found[2] if found else None

"""The rules of a message as a whole, which no block can break by itself: counts, and what holds for all or for none."""

from __future__ import annotations

from dataclasses import dataclass, field

from turnlog.domain.blocks.fields import Path, refuse
from turnlog.domain.blocks.media import MANY_IMAGES, MOST_IMAGES, MOST_PAGES, MOST_PIXELS_OF_MANY
from turnlog.domain.blocks.pdf import Effort


@dataclass
class Whole:
    """All that was read of a message so far. `effort` is what may still be spent on counting pages."""

    at: Path
    takes_results: bool
    effort: Effort = field(default_factory=Effort)
    _images: list[tuple[Path, int]] = field(default_factory=list)
    _pages: int = 0
    _results: set[str] = field(default_factory=set)
    _cites: bool | None = None

    def add_image(self, at: Path, longest: int) -> None:
        """Raises ValueRefused for one image too many. `longest` is its longer side in pixels."""
        self._images.append((at, longest))
        if len(self._images) > MOST_IMAGES:
            refuse("images_too_many", self.at, maximum=MOST_IMAGES)

    def add_pages(self, at: Path, pages: int) -> None:
        """Raises ValueRefused when all documents have too many pages together."""
        self._pages += pages
        if self._pages > MOST_PAGES:
            refuse("document_too_long", at, maximum=MOST_PAGES)

    def add_result(self, at: Path, tool_use_id: str) -> None:
        """Raises ValueRefused for a second result of one call."""
        if tool_use_id in self._results:
            refuse("tool_result_duplicate", at)
        self._results.add(tool_use_id)

    def add_citations(self, at: Path, *, enabled: bool) -> None:
        """Raises ValueRefused unless all documents and search results are cited, or none, as Claude wants it."""
        if self._cites not in (None, enabled):
            refuse("citations_mixed", at)
        self._cites = enabled

    def require_small_images(self) -> None:
        """Raises ValueRefused for an image that is too large among many."""
        for at, longest in self._images if len(self._images) > MANY_IMAGES else ():
            if longest > MOST_PIXELS_OF_MANY:
                refuse("image_too_large", at, maximum=MOST_PIXELS_OF_MANY)

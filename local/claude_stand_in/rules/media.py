"""Images, documents and search results: what they are by their bytes, how large, and how many."""

from __future__ import annotations

import base64
from typing import Any

from local.claude_stand_in.errors import ApiError, invalid
from local.claude_stand_in.images import Image, image_in
from local.claude_stand_in.media import all_media
from local.claude_stand_in.models import Model
from local.claude_stand_in.pdf import has_password, pages_of, pdf_in
from local.claude_stand_in.rules.blocks import check_block, check_text
from local.claude_stand_in.turns import Block

MOST_BASE64 = 10 * 1024 * 1024
MOST_PIXELS = 8_000  # on each side
MANY_IMAGES = 20  # with more of them each may have less pixels:
MOST_PIXELS_OF_MANY = 2_000
MOST_PAGES = 100  # of all PDFs of a request

_MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")


def check_media(body: dict[str, Any], model: Model) -> None:
    """Raises ApiError for an image, a document or a search result that Claude refuses."""
    found = all_media(body["messages"])
    images = [(path, block) for path, block in found if block["type"] == "image"]
    most_images = 100 if model.context <= 200_000 else 600
    if len(images) > most_images:
        raise invalid(f"messages: too many images: {len(images)} > {most_images}")
    for path, block in images:
        _check_size(_checked_image(f"{path}.image.source", block.get("source")), len(images))
    documents = [(path, block) for path, block in found if block["type"] == "document"]
    pages = sum(_checked_pages(f"{path}.document", block) for path, block in documents)
    if pages > MOST_PAGES:
        raise invalid(f"A maximum of {MOST_PAGES} PDF pages may be provided.")
    for path, block in found:
        if block["type"] == "search_result":
            _check_search_result(f"{path}.search_result", block)
    _check_citations(body, [block for _, block in documents], [block for _, block in found])


def _checked_image(path: str, source: object) -> Image:
    data = _base64_of(path, source, _MEDIA_TYPES)
    media_type = source["media_type"] if isinstance(source, dict) else ""
    try:
        base64.b64decode(data, validate=True)
        image = image_in(data)
    except ValueError:
        raise invalid(f"{path}.base64: invalid base64 data") from None
    if not image:
        raise invalid(f"{path}.base64: Could not process image")
    if image.media_type != media_type:
        raise invalid(
            f"{path}.base64: The image was specified using the {media_type} media type, but the image appears to be a"
            f" {image.media_type} image"
        )
    return image


def _base64_of(path: str, source: object, media_types: tuple[str, ...]) -> str:
    """The data of a source. Raises ApiError for one that is nothing in this request, or too large."""
    if not isinstance(source, dict) or not isinstance(source.get("type"), str):
        raise invalid(f"{path}: Field required")
    if source["type"] in ("url", "file"):
        raise invalid("Unable to download the file. Please verify the URL and try again.")
    if source["type"] != "base64":
        raise invalid(f"{path}: Input tag '{source['type']}' does not match any of the expected tags")
    for field in source.keys() - {"type", "media_type", "data"}:
        raise invalid(f"{path}.base64.{field}: Extra inputs are not permitted")
    if source.get("media_type") not in media_types:
        raise invalid(f"{path}.base64.media_type: Input should be {' or '.join(media_types)}")
    if not isinstance(source.get("data"), str) or not source["data"]:
        raise invalid(f"{path}.base64.data: Input should be a valid string")
    size = len(source["data"])
    if size > MOST_BASE64 and media_types == _MEDIA_TYPES:
        raise invalid(f"{path}.base64: image exceeds 10 MB maximum: {size} bytes > {MOST_BASE64} bytes")
    return str(source["data"])


def _check_size(image: Image, count: int) -> None:
    many = count > MANY_IMAGES
    most = MOST_PIXELS_OF_MANY if many else MOST_PIXELS
    if max(image.width, image.height) > most:
        requests = " for many-image requests" if many else ""
        raise invalid(f"At least one of the image dimensions exceed max allowed size{requests}: {most} pixels")


def _checked_pages(path: str, block: Block) -> int:
    """The pages of a PDF, 0 of another document. Raises ApiError for one that cannot be read."""
    source = block.get("source")
    for field in ("title", "context"):
        if not isinstance(block.get(field), str | None):
            raise invalid(f"{path}.{field}: Input should be a valid string")
    if isinstance(source, dict) and source.get("type") == "text":
        if source.get("media_type") != "text/plain":
            raise invalid(f"{path}.source.text.media_type: Input should be 'text/plain'")
        check_text(f"{path}.source.text", source.get("data"))
        return 0
    if isinstance(source, dict) and source.get("type") == "content":
        _check_content(f"{path}.source.content", source.get("content"))
        return 0
    raw = pdf_in(_base64_of(f"{path}.source", source, ("application/pdf",)))
    if raw is None:
        raise invalid(f"{path}.source.base64: The PDF specified was not valid.")
    if has_password(raw):
        raise invalid(f"{path}.source.base64: The PDF specified is password protected.")
    pages = pages_of(raw)
    if not pages:
        raise invalid(f"{path}.source.base64: The PDF specified was not valid.")
    return pages


def _check_content(path: str, content: object) -> None:
    if isinstance(content, str):
        check_text(path, content)
    elif isinstance(content, list) and content:
        for number, each in enumerate(content):
            if isinstance(each, dict) and each.get("type") not in ("text", "image"):
                raise _unexpected(f"{path}.{number}", each)
            check_block(f"{path}.{number}", each, "user")
    else:
        raise invalid(f"{path}: Input should be a valid string or list")


def _check_search_result(path: str, block: Block) -> None:
    for field in ("source", "title"):
        if not isinstance(block[field], str):
            raise invalid(f"{path}.{field}: Input should be a valid string")
    if not isinstance(block["content"], list) or not block["content"]:
        raise invalid(f"{path}.content: Input should be a list of text blocks")
    for number, each in enumerate(block["content"]):
        if isinstance(each, dict) and each.get("type") != "text":
            raise _unexpected(f"{path}.content.{number}", each)
        check_block(f"{path}.content.{number}", each, "user")


def _check_citations(body: dict[str, Any], documents: list[Block], found: list[Block]) -> None:
    for block in found:
        config = block.get("citations")
        if config is not None and (not isinstance(config, dict) or not isinstance(config.get("enabled", False), bool)):
            raise invalid(f"{block['type']}.citations: Input should be an object with enabled")
    if len({bool((block.get("citations") or {}).get("enabled")) for block in documents}) > 1:
        raise invalid("citations must be enabled on all or none of the documents")
    cited = any((block.get("citations") or {}).get("enabled") for block in found)
    if cited and (body.get("output_config") or {}).get("format"):
        raise invalid("output_config.format: citations cannot be enabled together with structured outputs")


def _unexpected(path: str, block: Block) -> ApiError:
    return invalid(f"{path}: Input tag '{block.get('type')}' does not match any of the expected tags")

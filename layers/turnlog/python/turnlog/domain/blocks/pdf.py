"""The number of a PDF's pages, counted in bounded time and memory, whatever the file claims.

The tables that say where objects lie are not believed: objects are found by reading the file once, as repair tools do,
so a damaged table is no obstacle and a false one no trap. The last definition of an object holds, as in a file that was
changed by appending to it. Streams are passed over, but for those that hold objects. Those are inflated up to a bound.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field

MOST_INFLATED = 16_000_000
"""Bytes of all streams of objects together, inflated; a file of 100 pages has rarely a tenth of that."""

MOST_OBJECTS = 100_000
"""Objects of one file; a file of 100 pages has a few thousand, with tags for screen readers ten times as many."""

_MOST_DICTIONARY = 65_536  # bytes of one object that are looked at: a list of 100 pages has about 1,000

_SPACE = rb"[\x00\t\n\f\r ]"
_HEADER = rb"(?<!\d)(\d{1,10})" + _SPACE + rb"{1,9}\d{1,5}" + _SPACE + rb"{1,9}obj"
_BEGIN = re.compile(_HEADER + rb"|trailer")
_END = re.compile(rb"endobj|stream\r?\n?|trailer|" + _HEADER)
_REFERENCE = re.compile(rb"(\d{1,10})" + _SPACE + rb"{1,9}\d{1,5}" + _SPACE + rb"{1,9}R")
_ENCRYPT = re.compile(rb"/Encrypt" + _SPACE + rb"*(?:\d|<<)")
_ROOT = re.compile(rb"/Root" + _SPACE + rb"*(\d{1,10})")
_PAGES = re.compile(rb"/Pages" + _SPACE + rb"*(\d{1,10})")
_KIDS = re.compile(rb"/Kids" + _SPACE + rb"*(?:\[([^\]]*)|(\d{1,10}))")
_COUNT = re.compile(rb"/Count" + _SPACE + rb"*(\d{1,9})")
_PAGE = re.compile(rb"/Type" + _SPACE + rb"*/Page(?![A-Za-z])")
_LENGTH = re.compile(rb"/Length" + _SPACE + rb"*(\d{1,10})(?!\d|" + _SPACE + rb"+\d{1,5}" + _SPACE + rb"+R)")
_NUMBER_OF_OBJECTS = re.compile(rb"/N" + _SPACE + rb"*(\d{1,6})")
_FIRST = re.compile(rb"/First" + _SPACE + rb"*(\d{1,8})")


class PdfUnreadable(ValueError):
    """The file is no PDF whose pages can be counted within the bounds."""


class PdfEncrypted(ValueError):
    """The file needs a password, or has restrictions that are encryption too."""


@dataclass
class Effort:
    """The work that is left for counting: shared by all files of a message, so that many are no way around a bound."""

    objects: int = MOST_OBJECTS
    inflated: int = MOST_INFLATED

    def spend(self, *, objects: int = 0, inflated: int = 0) -> None:
        """Raises PdfUnreadable when there is not as much left."""
        self.objects -= objects
        self.inflated -= inflated
        if self.objects < 0 or self.inflated < 0:
            raise PdfUnreadable


def page_count(data: bytes, most: int, effort: Effort | None = None) -> int:
    """Returns the number of pages; of a file with more than `most`, any number above that.

    Raises PdfEncrypted, and PdfUnreadable without a single page or when the effort is spent.
    """
    scan = _Scan(data, effort or Effort())
    scan.read()
    if scan.encrypted:
        raise PdfEncrypted
    count = scan.count_pages(most) or sum(_PAGE.search(each) is not None for each in scan.objects.values())
    if not count:
        raise PdfUnreadable
    return count


@dataclass
class _Scan:
    """One reading of a file. `objects` are the dictionaries and lists that may belong to the tree of pages."""

    data: bytes
    effort: Effort
    objects: dict[int, bytes] = field(default_factory=dict)
    root: int | None = None
    encrypted: bool = False
    _streams_end: bool = True  # False once it is known that no stream has an end any more

    def read(self) -> None:
        at = 0
        while begin := _BEGIN.search(self.data, at):
            end = _END.search(self.data, begin.end())
            at = end.start() if end else len(self.data)
            text = self.data[begin.end() : min(at, begin.end() + _MOST_DICTIONARY)]
            if begin[1] is None:
                self._note_trailer(text)
                continue
            self._note(int(begin[1]), text)
            if end and end[0].startswith(b"stream"):
                at = self._read_stream(text, end.end())
            elif end and end[0] == b"endobj":
                at = end.end()

    def count_pages(self, most: int) -> int:
        """Returns the leaves of the tree of pages, or what it claims to have if that is more; 0 without a tree."""
        catalog = self.objects.get(self.root) if self.root is not None else None
        top = _PAGES.search(catalog) if catalog else None
        if not top:
            return 0
        waiting, met, leaves = [int(top[1])], set[int](), 0
        while waiting and leaves <= most:
            number = waiting.pop()
            node = self.objects.get(number)
            if number in met or node is None:
                continue
            met.add(number)
            if _PAGE.search(node):
                leaves += 1
            else:
                kids = self._kids(node)
                self.effort.spend(objects=len(kids))  # a node may be named by many, though it should have one parent
                waiting += kids
        claimed = _COUNT.search(self.objects.get(int(top[1]), b""))
        return max(leaves, int(claimed[1]) if claimed else 0)

    def _kids(self, node: bytes) -> list[int]:
        found = _KIDS.search(node)
        if not found:
            return []
        listed = found[1] if found[2] is None else self.objects.get(int(found[2]), b"")
        return [int(each[1]) for each in _REFERENCE.finditer(listed)]

    def _note(self, number: int, text: bytes) -> None:
        self.effort.spend(objects=1)
        if b"/Page" in text or b"/Kids" in text or text.lstrip()[:1] == b"[":
            self.objects[number] = text
        else:
            self.objects.pop(number, None)  # an older one of this number

    def _note_trailer(self, text: bytes) -> None:
        text = text.partition(b"startxref")[0]
        self.encrypted = self.encrypted or _ENCRYPT.search(text) is not None
        if root := _ROOT.search(text):
            self.root = int(root[1])

    def _read_stream(self, dictionary: bytes, begin: int) -> int:
        """Returns the end of a stream that begins there, once the objects in it are noted."""
        length = _LENGTH.search(dictionary)
        end = begin + int(length[1]) if length else -1
        if length is None or not self.data[end : end + 20].lstrip().startswith(b"endstream"):
            end = self.data.find(b"endstream", begin) if self._streams_end else -1
            self._streams_end = end >= 0
        if end < 0:
            return begin
        if b"/XRef" in dictionary:
            self._note_trailer(dictionary)
        elif b"/ObjStm" in dictionary:
            self._read_objects(dictionary, self.data[begin:end])
        return end

    def _read_objects(self, dictionary: bytes, packed: bytes) -> None:
        """Notes the objects of a stream: pairs of number and position, then from `first` on the objects themselves."""
        number, first_at = _NUMBER_OF_OBJECTS.search(dictionary), _FIRST.search(dictionary)
        if not number or not first_at:
            return
        count, first = int(number[1]), int(first_at[1])
        if count > self.effort.objects:
            raise PdfUnreadable
        plain = self._inflate(packed) if b"/Filter" in dictionary else packed
        pairs = plain[: min(first, 24 * count)].split()[: 2 * count]
        if not all(len(each) <= 10 and each.isdigit() for each in pairs):
            return
        starts = [first + int(each) for each in pairs[1::2]]
        for each, start, end in zip(pairs[::2], starts, [*starts[1:], len(plain)], strict=False):
            if end < start:
                return
            self._note(int(each), plain[start : min(end, start + _MOST_DICTIONARY)])

    def _inflate(self, packed: bytes) -> bytes:
        inflating = zlib.decompressobj()
        try:
            plain = inflating.decompress(packed, self.effort.inflated + 1)
        except zlib.error:
            return b""  # damaged, or packed in a way that nothing uses for objects
        self.effort.spend(inflated=len(plain))
        return plain

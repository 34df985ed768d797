"""One unpacked copy of each layer for all workers, as Lambda mounts one at /opt.

MiniStack unpacks every layer for every worker: 80 MB and 8,000 files each, which is most of a cold start there, and of
the time that it takes to remove them at the end.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
import zipfile
from pathlib import Path
from typing import Any

_SHARED_FROM_BYTES = 256 * 1024  # a function's own code is far smaller, and stays its own


class SharedLayers:
    """Stands in for the zipfile module where MiniStack unpacks: large archives become links to one copy in `folder`."""

    BadZipFile = zipfile.BadZipFile
    LargeZipFile = zipfile.LargeZipFile
    LargeFileError = zipfile.LargeZipFile  # MiniStack's name for it, which zipfile does not have

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unpacking = threading.Lock()

    def ZipFile(self, file: str, *more: Any) -> zipfile.ZipFile | SharedArchive:  # noqa: N802 (zipfile's name)
        archive = Path(file)
        if more or archive.stat().st_size < _SHARED_FROM_BYTES:
            return zipfile.ZipFile(file, *more)
        return SharedArchive(self._unpacked(archive))

    def _unpacked(self, archive: Path) -> Path:
        with archive.open("rb") as content:
            there = self._folder / hashlib.file_digest(content, "sha256").hexdigest()
        with self._unpacking:
            if not there.exists():
                consistent = there.with_suffix(".new")
                with zipfile.ZipFile(archive) as members:
                    members.extractall(consistent)  # which never leaves the folder, whatever a member's name is
                consistent.rename(there)
        archive.unlink()
        return there


class SharedArchive:
    """An archive that is unpacked already."""

    def __init__(self, unpacked: Path) -> None:
        self._unpacked = unpacked

    def __enter__(self) -> SharedArchive:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def namelist(self) -> list[str]:
        """No member is left whose path would have to be checked."""
        return []

    def extractall(self, folder: str) -> None:
        """Puts a link in the place of the folder, which is empty."""
        shutil.rmtree(folder)
        Path(folder).symlink_to(self._unpacked)

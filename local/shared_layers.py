"""One unpacked copy of each layer for all workers, as Lambda mounts one at /opt.

MiniStack unpacks every layer for every worker: 80 MB and 8,000 files each. That is most of a cold start there, and most
of the time for removing them at the end.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import zipfile
from pathlib import Path
from typing import Any

_SHARED_FROM_BYTES = 256 * 1024  # a function's own code is far smaller, and stays its own
_KEPT = 8  # a layer that is edited leaves a copy for each save


class SharedLayers:
    """Replaces the zipfile module in MiniStack's runtime: a large archive becomes a link to one copy in `folder`."""

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
            unpacked = self._folder / hashlib.file_digest(content, "sha256").hexdigest()
        with self._unpacking:
            if not unpacked.exists():
                new = unpacked.with_suffix(".new")
                with zipfile.ZipFile(archive) as members:
                    members.extractall(new)  # which never leaves the folder, whatever a member's name is
                new.rename(unpacked)
            os.utime(unpacked)  # so that it counts as used last
            for old in sorted(self._folder.iterdir(), key=lambda copy: copy.stat().st_mtime)[:-_KEPT]:
                shutil.rmtree(old, ignore_errors=True)
        archive.unlink()
        return unpacked


class SharedArchive:
    """An archive that is unpacked already."""

    def __init__(self, unpacked: Path) -> None:
        self._unpacked = unpacked

    def __enter__(self) -> SharedArchive:
        return self

    def __exit__(self, *_: object) -> None:
        """Closes nothing, since nothing is open."""

    def namelist(self) -> list[str]:
        """An empty list: no member's path has to be checked any more."""
        return []

    def extractall(self, folder: str) -> None:
        """Replaces the folder, which is empty, by a link."""
        shutil.rmtree(folder)
        Path(folder).symlink_to(self._unpacked)

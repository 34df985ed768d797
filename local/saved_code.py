"""The code of functions and layers as it is saved now, in place of what was deployed.

The template mounts these folders as they are, so nothing has to be built. Lambda's names for them are the keys here.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

Version = tuple[tuple[str, int, int], ...]
"""The path, time and size of each file."""

_ANY_TIME = (1980, 1, 1, 0, 0, 0)  # the same for all, so that the same files make the same archive


class SavedCode:
    """The folders of functions and layers, by physical name. It is empty until they are known."""

    def __init__(self) -> None:
        self._functions: Mapping[str, Path] = {}
        self._layers: Mapping[str, Path] = {}

    def read_from(self, functions: Mapping[str, str], layers: Mapping[str, str]) -> None:
        """Takes the code of these functions and layers from these folders from now on."""
        self._layers = {name: Path(folder) for name, folder in layers.items()}
        self._functions = {name: Path(folder) for name, folder in functions.items()}

    def version(self, function: str) -> Version:
        """Returns what changes with each save of a file that the function may import; () for an unknown function."""
        if function not in self._functions:
            return ()
        return version_of(self._functions[function], *self._layers.values())

    def of_function(self, function: str) -> bytes | None:
        """The function's archive; None for an unknown one."""
        return _archive(self._functions[function]) if function in self._functions else None

    def of_layer(self, layer: str) -> bytes | None:
        """The layer's archive; None for an unknown one."""
        return _archive(self._layers[layer]) if layer in self._layers else None

    def with_its_paths(self, text: str, function: str, unpacked: str) -> str:
        """The text of a traceback with the paths of the files that were saved, not of those unpacked from them."""

        def path(found: re.Match[str]) -> str:
            folders = (self._functions.get(function), *self._layers.values())
            saved = [folder / found[1] for folder in folders if folder and (folder / found[1]).exists()]
            return str(saved[0]) if saved else found[0]

        return re.sub(rf'{re.escape(unpacked)}/(?:code|layer_\d+)/([^"\n]+)', path, text)


def version_of(*folders: Path) -> Version:
    """Returns what changes when a file of the folders is saved, added, moved or removed."""
    found = []
    for file in (file for folder in folders for file in files_of(folder)):
        try:
            about = file.stat()
        except OSError:
            continue  # an editor replaces it just now
        found.append((str(file), about.st_mtime_ns, about.st_size))
    return tuple(found)


def files_of(folder: Path) -> Iterator[Path]:
    """The files that would be deployed, in order: not byte code, nor what editors keep beside a file."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if each != "__pycache__")
        yield from (Path(parent, each) for each in sorted(files) if not each.startswith(".") and not each.endswith("~"))


def _archive(folder: Path) -> bytes:
    """A zip file of the folder, not compressed: it is unpacked on this machine."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for file in files_of(folder):
            try:
                content = file.read_bytes()
            except OSError:
                continue  # an editor replaces it just now, and its next version is another one
            archive.writestr(zipfile.ZipInfo(str(file.relative_to(folder)), _ANY_TIME), content)
    return written.getvalue()

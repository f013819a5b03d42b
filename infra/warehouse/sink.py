"""Where files go: a local directory or any fsspec URL. A file is there whole, or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem


class FileSink:
    """Files by their path below `url`. Needs `scratch`, a local directory, for what is not finished.

    A local file is written beside its place and renamed. Elsewhere the finished file is put with one call: atomic on
    object stores; on other remote file systems as atomic as their `put` is.
    """

    def __init__(self, url: str, scratch: Path) -> None:
        """Opens nothing yet, but raises ValueError or ImportError for a scheme that fsspec cannot serve."""
        self._system: Any
        self._system, root = fsspec.core.url_to_fs(url)
        self._root = str(root).rstrip("/")
        self._scratch = scratch

    @property
    def local(self) -> bool:
        """Whether files go into a directory of this machine."""
        return isinstance(self._system, LocalFileSystem)

    def place(self, path: str) -> str:
        """The file's full path in the file system of the sink."""
        return f"{self._root}/{path}"

    @contextmanager
    def replacing(self, path: str) -> Iterator[Path]:
        """A local file to write, which takes its place at the end of the block unless that raises. Raises OSError."""
        place = Path(self.place(path)) if self.local else self._scratch / Path(path).name
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = place.with_name(f".{place.name}.{secrets.token_hex(6)}.tmp")
        try:
            yield unfinished
            self._publish(unfinished, place, path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _publish(self, unfinished: Path, place: Path, path: str) -> None:
        if not self.local:
            target = self.place(path)
            self._system.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._system.put_file(str(unfinished), target)
            return
        _remove_leftovers(place, unfinished)
        _sync(unfinished)
        unfinished.replace(place)
        _sync(place.parent)


def _remove_leftovers(place: Path, mine: Path) -> None:
    """What killed processes left. One that only seems dead loses its file, and fails instead of replacing ours."""
    for other in place.parent.glob(f".{place.name}.*.tmp"):
        if other != mine:
            other.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

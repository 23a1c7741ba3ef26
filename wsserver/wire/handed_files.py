"""
Contents of certificate files that the supervisor passes to workers that may not read them.

The supervisor reads the private keys as root. The workers start later, when the supervisor has become another user.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from wsserver.errors import WsserverError

__all__ = ["find_files", "handed", "load_or_use_handed", "read_all", "read_file"]

_T = TypeVar("_T")


class _Handed:
    contents: Mapping[str, bytes] = {}
    is_used = False


@contextmanager
def handed(contents: Mapping[str, bytes]) -> Iterator[None]:
    """
    Hand over the contents of files for `load_or_use_handed`, until the block ends.

    Args:
        contents: path -> contents.
    """
    _Handed.contents = contents
    try:
        yield
    finally:
        _Handed.contents = {}


def load_or_use_handed(load: Callable[[], _T]) -> _T:
    """
    Load files; if this fails, load the contents that were handed over.

    The contents of all files are used, or those of none: a new certificate does not belong to the old private key.

    Raises:
        WsserverError: the files cannot be used, and neither can the contents that were handed over, if there are any.
    """
    try:
        return load()
    except WsserverError:
        if not _Handed.contents:
            raise
    _Handed.is_used = True
    try:
        return load()
    finally:
        _Handed.is_used = False


def read_file(path: str, size: int) -> bytes:
    """
    Return the beginning of a file, at most `size` bytes.

    Raises:
        OSError: the file is missing, or cannot be read.
        ValueError: the path is invalid.
    """
    if _Handed.is_used and path in _Handed.contents:
        return _Handed.contents[path][:size]
    with Path(path).open("rb") as file:
        return file.read(size)


def find_files(path: str) -> list[str]:
    """Return the paths of the files with the suffix `.pem` in a directory and its subdirectories."""
    if _Handed.is_used:
        return sorted(file for file in _Handed.contents if Path(path) in Path(file).parents)
    return [str(file) for file in sorted(Path(path).rglob("*.pem"))]


def read_all(paths: Iterable[str], size: int) -> dict[str, bytes]:
    """Return the contents of files, to hand them over; files that cannot be read are left out."""
    found = {}
    for path in paths:
        try:
            found[path] = read_file(path, size)
        except (OSError, ValueError):
            continue
    return found

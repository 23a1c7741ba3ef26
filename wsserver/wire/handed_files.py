"""
Contents of certificate files that the supervisor passes to workers that may not read them.

The supervisor reads the private keys as root. The workers start later, when the supervisor has become another user.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from wsserver.errors import WsserverError

__all__ = [
    "FileStates",
    "Files",
    "find_files",
    "handed",
    "load_and_record",
    "load_or_use_handed",
    "read_file",
]

_T = TypeVar("_T")

FileStates = Mapping[str, tuple[int, ...] | None]
"""Path -> what changes when the file is written or replaced; None if it is missing."""


class Files(NamedTuple):
    """The files that certificates were read from."""

    contents: Mapping[str, bytes] = {}
    """Path -> contents."""
    states: FileStates = {}
    """Their states when they were read."""


class _Handed:
    files = Files()
    is_used = False


class _Recorded:
    contents: dict[str, bytes] = {}


@contextmanager
def handed(files: Files) -> Iterator[None]:
    """
    Hand over the contents of files for `load_or_use_handed`, until the block ends.

    Args:
        files: the files, and their states when another process has read them.
    """
    _Handed.files = files
    try:
        yield
    finally:
        _Handed.files = Files()


def load_or_use_handed(load: Callable[[], _T]) -> tuple[_T, Files]:
    """
    Load files; if this fails, load the contents that were handed over.

    The contents of all files are used, or those of none: a new certificate does not belong to the old private key.

    Returns:
        What `load` returns, and the contents that it has read. The states are those that were handed over with the
        contents; there are none if the files themselves were read.

    Raises:
        WsserverError: the files cannot be used, and neither can the contents that were handed over, if there are any.
    """
    try:
        loaded, contents = load_and_record(load)
        return loaded, Files(contents)
    except WsserverError:
        if not _Handed.files.contents:
            raise
    _Handed.is_used = True
    try:
        loaded, contents = load_and_record(load)
    finally:
        _Handed.is_used = False
    return loaded, Files(contents, _Handed.files.states)


def load_and_record(load: Callable[[], _T]) -> tuple[_T, Mapping[str, bytes]]:
    """Return what `load` returns, and the contents of the files that it has read by `read_file`: path -> contents."""
    recorded: dict[str, bytes] = {}
    _Recorded.contents = recorded
    try:
        return load(), recorded
    finally:
        _Recorded.contents = {}


def read_file(path: str, size: int) -> bytes:
    """
    Return the beginning of a file, at most `size` bytes.

    Raises:
        OSError: the file is missing, or cannot be read.
        ValueError: the path is invalid.
    """
    if _Handed.is_used and path in _Handed.files.contents:
        data = _Handed.files.contents[path][:size]
    else:
        with Path(path).open("rb") as file:
            data = file.read(size)
    _Recorded.contents[path] = data
    return data


def find_files(path: str) -> list[str]:
    """
    Return the paths of the files with the suffix `.pem` in a directory and its subdirectories.

    Directories that this process may not search are left out.
    """
    if _Handed.is_used:
        return sorted(file for file in _Handed.files.contents if Path(path) in Path(file).parents)
    try:
        return [str(file) for file in sorted(Path(path).rglob("*.pem"))]
    except PermissionError:
        return []

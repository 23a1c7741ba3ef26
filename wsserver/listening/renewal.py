"""
Renewal of TLS certificates: notice that the files of a listener have changed, and use them for the next handshake.

Programs such as certbot replace the certificate and the private key one after the other, or switch symbolic links.
Until the new files are complete and belong together, the listener keeps the certificate that it has. Connections that
are open keep theirs.

After a start as root, the process may not be permitted to look at the files any more. Such files count as unchanged.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from OpenSSL import SSL
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from wsserver.errors import WsserverError
from wsserver.logging import LINE
from wsserver.wire.handed_files import FileStates, load_and_record, load_or_use_handed
from wsserver.wire.tls_server import ConnectionCreator

__all__ = ["INTERVAL", "PATIENCE", "CertificateSource", "CertificateWatch", "Loaded"]

_log = Logger(namespace="wsserver")

INTERVAL = 0.5
"""Seconds between two looks at the files. Changed files are used if they are the same at two looks."""

PATIENCE = 5.0
"""Seconds for which changed files may be unusable before a warning is logged: a program may still write them."""


class Loaded(NamedTuple):
    """Certificates that were read from the files of a listener."""

    context: SSL.Context
    expires: datetime
    """When the first of them expires."""


class CertificateSource:
    """
    The certificate files of a listener.

    Args:
        name: the file or directory, for the log.
        files: returns the paths of all files that determine the certificates.
        load: reads the files; raises a `WsserverError` if they cannot be used.

    Raises:
        WsserverError: the files cannot be used.
    """

    def __init__(self, name: str, files: Callable[[], Iterable[str]], load: Callable[[], Loaded]) -> None:
        self.name, self.files, self.load = name, files, load
        self.states: FileStates = {}
        """The states of the files that the certificates in use were read from."""
        self.states = self._find_states()
        loaded, (self.contents, states) = load_or_use_handed(load)
        """The contents of these files."""
        # Those that were handed over may be older: the next look then reports why the new files were not used.
        self.states = self._known(states) or self.states
        self._seen = self._find_states()
        """The states of the files when they were last looked at."""
        self._problem: tuple[str, float] | None = None
        """Why the changed files cannot be used, and since when; None if they can."""
        self._is_reported = False
        self.expires = loaded.expires
        """When the first of the certificates in use expires."""
        self.creator = ConnectionCreator(loaded.context)
        """Creates the TLS connections, always with the newest certificates."""

    def is_current(self) -> bool:
        """Return whether the files are those that the certificates in use were read from."""
        return self._find_states() == self.states

    def take(self, other: "CertificateSource") -> None:
        """Use the files of another source, and the certificates that it has read from them."""
        self.name, self.files, self.load = other.name, other.files, other.load
        self.states, self.contents = other.states, other.contents
        self._seen, self._problem, self._is_reported = self.states, None, False
        self.creator.context, self.expires = other.creator.context, other.expires

    def check(self, now: float) -> None:
        """
        Use the files if they have changed, or log why they cannot be used.

        Args:
            now: the time, in seconds of any clock.
        """
        found, before = self._find_states(), self._seen
        self._seen = found
        if found == self.states:
            self._problem = None
            return
        if found != before:
            # A program may be writing them.
            return
        try:
            loaded, self.contents = load_and_record(self.load)
        except WsserverError as error:
            self._report(str(error), now)
            return
        self.states, self._problem, self._is_reported = found, None, False
        self.creator.context, self.expires = loaded.context, loaded.expires
        line = f"certificate renewed file={json.dumps(self.name)} expires={loaded.expires:%Y-%m-%d}"
        _log.info(LINE, line=line, file=self.name, expires=str(loaded.expires))

    def _report(self, problem: str, now: float) -> None:
        if self._problem is None or self._problem[0] != problem:
            self._problem, self._is_reported = (problem, now), False
        elif now - self._problem[1] >= PATIENCE and not self._is_reported:
            self._is_reported = True
            line = f"certificate not renewed file={json.dumps(self.name)} reason={json.dumps(problem)}"
            _log.warn(LINE, line=line, file=self.name, reason=problem)

    def _find_states(self) -> FileStates:
        """Return the states of the files; those that this process may not look at have their known states."""
        found = {path: _state(path, self.states.get(path)) for path in self.files()}
        # The files of a directory that this process may not list.
        missing = {path: _state(path, known) for path, known in self.states.items() if path not in found}
        return found | {path: state for path, state in missing.items() if state is not None}

    def _known(self, states: FileStates) -> FileStates:
        return {path: states[path] for path in {*self.files(), *self.contents} if path in states}


def _state(path: str, known: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """
    Return what changes when a file is written or replaced, or a symbolic link to it is; None if it is missing.

    Args:
        path: the file.
        known: what to return if this process is not permitted to look at the file.
    """
    try:
        found = os.stat(path)
    except PermissionError:
        return known
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class CertificateWatch:
    """
    Looks at the certificate files of all listeners every `INTERVAL` seconds.

    Args:
        sources: the files of the listeners.
        reactor: the reactor, for the timer.
    """

    def __init__(self, sources: Sequence[CertificateSource], reactor: IReactorTime) -> None:
        self._sources = list(dict.fromkeys(sources))
        self._reactor: Any = reactor
        self._timer: IDelayedCall | None = None

    def expiries(self) -> dict[str, float]:
        """Return file or directory of certificates in use -> the UNIX time at which the first of them expires."""
        found: dict[str, float] = {}
        for source in self._sources:
            found[source.name] = min(source.expires.timestamp(), found.get(source.name, float("inf")))
        return found

    def start(self) -> None:
        """Start to look at the files; do nothing if there are none, or the watch is running."""
        if self._sources and self._timer is None:
            self._timer = self._reactor.callLater(INTERVAL, self._look)

    def stop(self) -> None:
        """Stop to look at the files."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._reactor.callLater(INTERVAL, self._look)
        for source in self._sources:
            with _log.failuresHandled("looking at the certificate files failed"):
                source.check(self._reactor.seconds())

"""
Commands in requests of their own: they are executed by the client whose session they name.

A client that receives an endless response (`wsserver.endpoints.centrifuge.http_stream`) sends its commands in this way.
Such a request may reach any server process. It names the process that has the session, which then gets the commands as
a control message through the broker. Centrifuge calls this the emulation of a connection in both directions.

Source: `emulation.go` of centrifugal/centrifuge.
"""

import base64
import os
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from wsserver.endpoints.centrifuge.http_stream import HTTPStream
from wsserver.hub.deferreds import MaybeDeferred, then
from wsserver.hub.survey import Survey
from wsserver.wire.http11 import Refusal, bad_request, forbidden

__all__ = ["OPERATION", "Commands", "Emulation", "Sessions", "new_session_id"]

OPERATION: Final = "emulate"
"""The name of the request to another server process; see `wsserver.hub.survey`."""


def new_session_id() -> str:
    """Return the id of a new session, which cannot be guessed: 128 random bits, as 32 hexadecimal digits."""
    return os.urandom(16).hex()


class Commands(NamedTuple):
    """Commands of a client, and what is known of who sent them."""

    session: str
    """The id of the client's session."""
    node: str
    """The id of the server process that has the session; empty for this process."""
    frame: bytes
    """The commands, in the client's form of the protocol."""
    is_protobuf: bool
    """Whether the request had the Protobuf form."""
    origin: str = ""
    """The Origin header of the request; empty if there was none."""
    user: str | None = None
    """The user of the token in the headers of the request; None if there was no valid token."""


class Sessions:
    """The sessions of this process, by their ids."""

    def __init__(self) -> None:
        self._streams: dict[str, HTTPStream] = {}

    def add(self, stream: HTTPStream) -> None:
        """Add the session of a new connection."""
        self._streams[stream.session_id] = stream

    def discard(self, session_id: str) -> None:
        """Remove a session: its connection is closed."""
        self._streams.pop(session_id, None)

    def execute(self, commands: Commands) -> Refusal | None:
        """
        Execute commands of a session of this process.

        Returns:
            None if the commands are executed: the replies are sent to the client's response. Else a refusal: 400, 403,
            404, or 429.
        """
        stream = self._streams.get(commands.session)
        if stream is None:
            return _no_session()
        # Browsers send no Origin header when a page of the server's own origin fetches an event stream.
        if stream.origin and commands.origin != stream.origin:
            return forbidden("the session belongs to a page of another origin")
        if commands.user is not None and (stream.session is None or commands.user != stream.session.user):
            return forbidden("the session belongs to another user")
        if commands.is_protobuf != (stream.codec.name == "protobuf"):
            return bad_request(f"the session uses the form {stream.codec.name} of the protocol")
        if not stream.receive_more(commands.frame):
            return Refusal(HTTPStatus.TOO_MANY_REQUESTS, "too many commands of this client are waiting")
        return None

    def answer(self, arguments: Mapping[str, Any]) -> Any:
        """Execute commands that another process has received; return the status and the reason of the refusal."""
        refusal = self.execute(Commands(**{**arguments, "frame": base64.b64decode(arguments["frame"])}))
        return [refusal.status, refusal.reason] if refusal is not None else [HTTPStatus.NO_CONTENT, ""]


class Emulation:
    """
    Passes commands to the process that has the session.

    Args:
        sessions: the sessions of this process.
        survey: sends commands to the other processes, which answer with `Sessions.answer`.
        node: the id of this process.
    """

    def __init__(self, sessions: Sessions, survey: Survey, node: str) -> None:
        self.sessions = sessions
        self.node = node
        self._survey = survey

    def execute(self, commands: Commands) -> MaybeDeferred[Refusal | None]:
        """
        Execute commands, in this process or in another one.

        Returns:
            The result of `Sessions.execute`; a Deferred of it, which fails with `BrokerDown` if the broker is
            unavailable, if another process has the session.
        """
        if commands.node in ("", self.node):
            return self.sessions.execute(commands)
        arguments = {**commands._asdict(), "frame": base64.b64encode(commands.frame).decode("ascii")}
        return then(self._survey.ask(OPERATION, arguments, node=commands.node), _read_answers)


def _no_session() -> Refusal:
    reason = "no such session: it has ended, or another server process has it, which must share a Redis (--redis)"
    return Refusal(HTTPStatus.NOT_FOUND, reason)


def _read_answers(answers: list[Any]) -> Refusal | None:
    if not answers:
        return _no_session()
    status, reason = answers[0]
    return Refusal(HTTPStatus(status), reason) if status != HTTPStatus.NO_CONTENT else None

"""The two forms of the Centrifuge client protocol, JSON and Protobuf: what they have in common."""

from collections.abc import Iterable
from typing import Protocol

from wsserver.centrifugecodes import Error
from wsserver.endpoints.centrifuge.commands import Command
from wsserver.endpoints.centrifuge.replies import Message
from wsserver.hub.clients import ClientInfo
from wsserver.hub.publication import Publication

__all__ = ["Codec"]


class Codec(Protocol):
    """
    Parses the commands of a client, and writes replies and pushes.

    A frame contains one or more replies and pushes, joined by `separator`.
    """

    @property
    def name(self) -> str:
        """The name of the form, `json` or `protobuf`, as shown to the backend."""

    @property
    def subprotocol(self) -> str:
        """The WebSocket subprotocol of the form."""

    @property
    def first_byte(self) -> int:
        """The first byte of a WebSocket frame: `FIN_TEXT` or `FIN_BINARY`."""

    @property
    def separator(self) -> bytes:
        """The bytes between two replies or pushes of a frame."""

    @property
    def ping(self) -> bytes:
        """A ping, which is an empty reply. The client's pong is an empty command."""

    @property
    def json(self) -> bool:
        """Whether the data that clients send is JSON text; otherwise it is bytes of unknown type."""

    def parse(self, frame: bytes) -> list[Command]:
        """
        Parse the commands of a frame. Never raises.

        Args:
            frame: the payload of a message, text or binary.

        Returns:
            The commands in order. The request of an invalid command is a `Disconnect`: 3501, bad request. The commands
            before it are executed, as in Centrifuge, and those after it are not.
        """

    def reply(self, number: int, result: Message) -> bytes:
        """
        Write the reply to a command.

        Args:
            number: the command's ID.
            result: the command's result.
        """

    def error_reply(self, number: int, error: Error) -> bytes:
        """Write the error reply to a command, of which `number` is the ID."""

    def push(self, channel: str, message: Message) -> bytes:
        """
        Write a push: a message that is not the reply to a command.

        Args:
            channel: the channel's name; empty if the push concerns no channel.
            message: the content of the push.
        """

    def publication(self, channel: str, publication: Publication) -> bytes:
        """Write the push of a publication."""

    def delta_publication(self, channel: str, publication: Publication, base: Publication | None) -> bytes:
        """
        Write the push of a publication for a client that receives deltas.

        Args:
            channel: the channel's name.
            publication: the publication.
            base: the publication that the client has received immediately before. If it is None, or if the delta of
                both is not smaller, the data is written completely.
        """

    def presence_event(self, channel: str, info: ClientInfo, *, join: bool) -> bytes:
        """Write the push of a join event, or of a leave event if `join` is False."""

    def publications(self, publications: Iterable[Publication]) -> bytes:
        """Write the field `publications` of a `HistoryResult`."""

    def client(self, client: str, info: ClientInfo) -> bytes:
        """Write a client of a channel, as `clients` needs it."""

    def clients(self, clients: Iterable[bytes]) -> bytes:
        """Write the field `presence` of a `PresenceResult` from the results of `client`."""

"""`/echo`: send every message back."""

from wsserver.wire.protocol import ServerProtocol

__all__ = ["EchoProtocol"]


class EchoProtocol(ServerProtocol):
    """Send back every message unchanged. Messages are not interpreted, and the server sends no other messages."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Send the message back with the same opcode."""
        self.sendMessage(payload, isBinary)

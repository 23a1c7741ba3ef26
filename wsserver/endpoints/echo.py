"""`/echo`: every message back."""

from wsserver.wire.protocol import ServerProtocol

__all__ = ["EchoProtocol"]


class EchoProtocol(ServerProtocol):
    """Send back every message unchanged; never greet, never interpret."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Echo."""
        self.sendMessage(payload, isBinary)

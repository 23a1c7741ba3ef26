"""`/echo`: send every message back."""

from wsserver.wire.protocol import ServerProtocol

__all__ = ["EchoProtocol"]


class EchoProtocol(ServerProtocol):
    """Send back every message unchanged. Messages are not interpreted, and the server sends no other messages."""

    # The arguments are the same: the message is sent back with its opcode. A method in between would only cost time.
    onMessage = ServerProtocol.sendMessage

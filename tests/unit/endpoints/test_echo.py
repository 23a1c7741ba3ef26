"""The echo endpoint."""

import pytest

from wsserver.config.settings import Settings
from wsserver.testing import Frame, MemoryServer


class EchoTests:
    """`/echo`."""

    @pytest.mark.parametrize("payload", [b"", b"hello", "€uro 漢字 🙂".encode(), b" Bye ", b"help", b"x" * 70000])
    @pytest.mark.parametrize("opcode", [1, 2])
    def test_returns_every_message_unchanged_in_its_type(self, opcode, payload):
        """--reply-prefix applies to `/` only."""
        client = MemoryServer(Settings(reply_prefix="no: ")).connect()
        client.open("/echo")
        assert client.frames() == []
        client.send_frame(opcode, payload)
        assert client.frames() == [Frame(opcode, payload)]

"""Tests for wsserver/testing.py: what a client in memory reads from the frames of a server."""

import pytest

from wsserver.testing import MemoryClient, MemoryServer, MemoryTransport, build_frame
from wsserver.wire.protocol import ServerProtocol


def frame(opcode, payload=b"", *, fin=True):
    """Build a frame as a server sends it."""
    return build_frame(opcode, payload, fin=fin, mask=b"")


class FragmentingEcho(ServerProtocol):
    """Echo in frames of 3 bytes."""

    def onMessage(self, payload, isBinary):
        self.sendMessage(payload, isBinary, fragmentSize=3)


@pytest.fixture
def client():
    """Make a client to which the test writes in place of a server."""
    return MemoryClient(MemoryTransport(None))


class MessagesTests:
    """`MemoryClient.messages`."""

    def test_returns_text_as_str_and_binary_as_bytes(self, client):
        client.transport.write(frame(1, "é".encode()) + frame(2, b"\xff") + frame(1))
        assert client.messages() == ["é", b"\xff", ""]
        assert client.messages() == []

    def test_joins_the_fragments_of_a_message(self, client):
        """A character may be split between two fragments."""
        first, second = "é".encode()[:1], "é".encode()[1:]
        text = frame(1, first, fin=False) + frame(0, second, fin=False) + frame(0, b"!")
        client.transport.write(text + frame(2, b"a", fin=False) + frame(0) + frame(1, b"whole"))
        assert client.messages() == ["é!", b"a", "whole"]

    def test_drops_control_frames_between_fragments(self, client):
        client.transport.write(frame(1, b"a", fin=False) + frame(9, b"ping") + frame(0, b"b") + frame(8))
        assert client.messages() == ["ab"]

    def test_returns_a_message_when_its_last_fragment_has_been_received(self, client):
        client.transport.write(frame(2, b"a", fin=False) + frame(0, b"b", fin=False))
        assert client.messages() == []
        client.transport.write(frame(0, b"c"))
        assert client.messages() == [b"abc"]

    @pytest.mark.parametrize(
        ("sent", "error"),
        [
            (frame(0, b"a"), "opcode 0; expected a text or binary frame"),
            (frame(1, b"a") + frame(0, b"b"), "opcode 0; expected a text or binary frame"),
            (frame(1, b"a", fin=False) + frame(1, b"b"), "opcode 1; expected a continuation frame"),
            (frame(2, b"a", fin=False) + frame(2, b"b", fin=False), "opcode 2; expected a continuation frame"),
        ],
    )
    def test_raises_value_error_at_a_fragment_out_of_order(self, client, sent, error):
        client.transport.write(sent)
        with pytest.raises(ValueError, match=error):
            client.messages()

    def test_frames_returns_each_fragment(self, client):
        client.transport.write(frame(1, b"a", fin=False) + frame(0, b"b"))
        assert [(one.opcode, one.payload, one.fin) for one in client.frames()] == [(1, b"a", False), (0, b"b", True)]

    def test_returns_the_messages_of_an_endpoint_that_fragments(self):
        client = MemoryServer(endpoints={"/echo3": FragmentingEcho}).connect()
        client.open("/echo3")
        client.send_text("hello, world")
        client.send_frame(2, b"\x00" * 10)
        assert client.messages() == ["hello, world", b"\x00" * 10]

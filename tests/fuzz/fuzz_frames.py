"""Fuzz the WebSocket endpoints with valid, nearly valid and invalid frames."""

import random
import socket
import time

from peers import CLOSE, RawPeer
from socket_findings import Findings
from streams import make_case

from wsserver.closecodes import CloseCode

__all__ = ["fuzz"]

PATHS = ("/echo", "/echo", "/echo", "/ws", "/ws?channel=a", "/ticker?every=10ms&count=3", "/connection/websocket")

PATIENCE = 10.0
"""Maximum seconds to wait for the end of a connection whose client has finished."""

MAX_WAIT = 0.001
"""Maximum seconds to wait between two pieces."""

OPCODES = (0x0, 0x1, 0x2, 0x8, 0x9, 0xA)


def fuzz(port: int, rng: random.Random, seconds: float, findings: Findings) -> None:
    """
    Send streams of frames to the server, and check the answers.

    Args:
        port: the port of the server.
        rng: makes the random choices.
        seconds: how long to send.
        findings: collects what is found.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        case = make_case(rng)
        offer = [f"Sec-WebSocket-Extensions: {case.offer}"] if case.offer else []
        with RawPeer(port) as peer:
            peer.socket.settimeout(PATIENCE)
            peer.handshake(rng.choice(PATHS), *offer)
            findings.count(_run(peer, case.stream, list(case.pieces()), findings, lost=case.lost))


def _run(peer: RawPeer, stream: bytes, pieces: list[tuple[bytes, float]], findings: Findings, *, lost: bool) -> object:
    """Send a stream and read to the end; return the close code of the server, or how else the connection ended."""
    try:
        for piece, wait in pieces:
            peer.send(piece)
            if wait:
                time.sleep(min(wait, MAX_WAIT))
        if lost:
            peer.reset()
            return "reset by the client"
        peer.socket.shutdown(socket.SHUT_WR)
    except OSError:
        # The server has closed the connection already; what it sent can still be read. If it has reset the connection,
        # as it does if a client sends but does not read for `--close-timeout`, the last frame may be cut. Sending has
        # then consumed the error, so that reading only meets the end.
        return _read(peer, stream, findings, may_be_cut=True)
    return _read(peer, stream, findings, may_be_cut=False)


def _read(peer: RawPeer, stream: bytes, findings: Findings, *, may_be_cut: bool) -> object:
    while True:
        try:
            frame = peer.read_frame()
        except AssertionError as error:
            if "must not mask" in str(error) or (peer.buffer and not may_be_cut):
                findings.complain(f"the last frame of the server is not whole or not valid: {error}", stream)
            return "end without a Close frame"
        except TimeoutError:
            findings.complain(f"the connection was not ended within {PATIENCE:g} s", stream)
            return "open"
        except OSError:
            return "reset by the server"
        if frame.opcode not in OPCODES:
            findings.complain(f"the server sent a frame with opcode {frame.opcode}", stream)
        if frame.opcode == CLOSE:
            code = frame.close_code
            # The client sends this code too, with other reasons, and the server returns it.
            if code == CloseCode.INTERNAL_ERROR and "error" in frame.close_reason:
                findings.complain(f"the server closed with {code}: {frame.close_reason}", stream)
            return code or "Close frame without a code"

"""T5: requests that two programs read differently (request smuggling)."""

import socket

import pytest
from peers import KEY, TEXT, frame, handshake_request

INNER = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
"""The request that an attacker hides in another one. If the server reads it, there is a 404 too many."""


def post(*lines, body=b"", target="/nothing", version="HTTP/1.1", host="Host: a"):
    """Build a POST request."""
    return "\r\n".join([f"POST {target} {version}", *([host] if host else []), *lines, "", ""]).encode("latin-1") + body


def get(*lines, target="/nothing", version="HTTP/1.1", host="Host: a"):
    """Build a GET request."""
    return "\r\n".join([f"GET {target} {version}", *([host] if host else []), *lines, "", ""]).encode("latin-1")


CL5, TE = "Content-Length: 5", "Transfer-Encoding: chunked"
ZERO = b"0\r\n\r\n"
UPGRADE = {"Upgrade": "websocket"}

# Name -> the bytes to send, the statuses of all responses.
CASES = {
    # Content-Length and Transfer-Encoding together.
    "CL and TE": (post("Content-Length: 6", TE, body=ZERO + b"G") + INNER, [400]),
    "TE and CL": (post(TE, "Content-Length: 4", body=b"5c\r\n" + ZERO) + INNER, [400]),
    "CL 0 and TE": (post("Content-Length: 0", TE, body=ZERO) + INNER, [400]),
    # Transfer-Encoding, disguised.
    "TE with a space before the colon": (post("Transfer-Encoding : chunked", CL5, body=ZERO) + INNER, [400]),
    "TE with a tab before the colon": (post("Transfer-Encoding\t: chunked", CL5, body=ZERO) + INNER, [400]),
    "TE with a vertical tab": (post("Transfer-Encoding: \x0bchunked", body=ZERO) + INNER, [400]),
    "TE with a form feed": (post("Transfer-Encoding: \x0cchunked", body=ZERO) + INNER, [400]),
    "TE xchunked": (post("Transfer-Encoding: xchunked", body=ZERO) + INNER, [400]),
    "TE identity": (post("Transfer-Encoding: identity", CL5, body=ZERO) + INNER, [400]),
    "TE chunked, identity": (post("Transfer-Encoding: chunked, identity", body=ZERO) + INNER, [400]),
    "TE identity, chunked": (post("Transfer-Encoding: identity, chunked", body=ZERO) + INNER, [501]),
    "TE gzip, chunked": (post("Transfer-Encoding: gzip, chunked", body=ZERO) + INNER, [501]),
    "TE chunked twice in one header": (post("Transfer-Encoding: chunked, chunked", body=ZERO) + INNER, [400]),
    "TE in two headers": (post(TE, "Transfer-Encoding: identity", body=ZERO) + INNER, [400]),
    "TE chunked in two headers": (post(TE, TE, body=ZERO) + INNER, [400]),
    "TE with quotes": (post('Transfer-Encoding: "chunked"', body=ZERO) + INNER, [400]),
    "TE with a parameter": (post("Transfer-Encoding: chunked;a=b", body=ZERO) + INNER, [400]),
    "TE empty": (post("Transfer-Encoding:", CL5, body=ZERO) + INNER, [400]),
    "TE with NUL": (post("Transfer-Encoding: chunked\0", body=ZERO) + INNER, [400]),
    "TE folded": (post("Transfer-Encoding:", " chunked", body=ZERO) + INNER, [400]),
    "TE with a lone CR": (post("X: a\rTransfer-Encoding: chunked", CL5, body=ZERO) + INNER, [400]),
    "TE with a lone LF": (post("X: a\nTransfer-Encoding: chunked", CL5, body=ZERO) + INNER, [400]),
    "TE in HTTP/1.0": (post(TE, body=ZERO, version="HTTP/1.0") + INNER, [400]),
    "TE in capitals is read": (post("TRANSFER-ENCODING: CHUNKED", body=ZERO) + INNER, [404, 404]),
    # Content-Length.
    "two CL": (post("Content-Length: 5", "Content-Length: 0", body=ZERO) + INNER, [400]),
    "two equal CL": (post(CL5, CL5, body=ZERO) + INNER, [400]),
    "a list of CL": (post("Content-Length: 5, 5", body=ZERO) + INNER, [400]),
    "CL +5": (post("Content-Length: +5", body=ZERO) + INNER, [400]),
    "CL -5": (post("Content-Length: -5", body=ZERO) + INNER, [400]),
    "CL 0x5": (post("Content-Length: 0x5", body=ZERO) + INNER, [400]),
    "CL 5_0": (post("Content-Length: 5_0", body=ZERO) + INNER, [400]),
    "CL 5.0": (post("Content-Length: 5.0", body=ZERO) + INNER, [400]),
    "CL 5 followed by text": (post("Content-Length: 5 x", body=ZERO) + INNER, [400]),
    "CL of other digits": (post("Content-Length: \xb2", body=ZERO) + INNER, [400]),
    "CL empty": (post("Content-Length:", body=ZERO) + INNER, [400]),
    "CL with a space before the colon": (post("Content-Length : 5", body=ZERO) + INNER, [400]),
    "CL of a number beyond 64 bits": (post("Content-Length: 18446744073709551621", body=ZERO) + INNER, [400]),
    "CL with leading zeros is read": (post("Content-Length: 005", body=ZERO) + INNER, [404, 404]),
    "CL on a GET is read": (get(CL5) + ZERO + INNER, [404, 404]),
    "CL folded": (post("Content-Length:", " 5", body=ZERO) + INNER, [400]),
    # Chunks.
    "chunk size with 0x": (post(TE, body=b"0x0\r\n\r\n") + INNER, [400]),
    "chunk size with a sign": (post(TE, body=b"+0\r\n\r\n") + INNER, [400]),
    "chunk size with an underscore": (post(TE, body=b"0_0\r\n\r\n") + INNER, [400]),
    "chunk size with a space": (post(TE, body=b"0 \r\n\r\n") + INNER, [400]),
    "chunk size beyond 64 bits": (post(TE, body=b"10000000000000000\r\n") + INNER, [400]),
    "chunk size empty": (post(TE, body=b"\r\n\r\n") + INNER, [400]),
    "chunk that ends with LF": (post(TE, body=b"1\r\nx\n0\r\n\r\n") + INNER, [400]),
    "chunk size that ends with LF": (post(TE, body=b"0\n\n") + INNER, [400]),
    "chunk with a lone CR": (post(TE, body=b"1\rx\r\n0\r\n\r\n") + INNER, [400]),
    "chunk longer than its size": (post(TE, body=b"1\r\nxx\r\n0\r\n\r\n") + INNER, [400]),
    "chunk extension with LF": (post(TE, body=b"0;a\nb\r\n\r\n") + INNER, [400]),
    "chunk extension with CR": (post(TE, body=b"0;a\rb\r\n\r\n") + INNER, [400]),
    "trailer with LF": (post(TE, body=b"0\r\nX: a\nY: b\r\n\r\n") + INNER, [400]),
    "a trailer is not a header": (post(TE, body=b"0\r\nContent-Length: 100\r\n\r\n") + INNER, [404, 404]),
    # Lines and names.
    "LF alone ends a line": (b"GET /nothing HTTP/1.1\nHost: a\n\n" + INNER, [400]),
    "CR alone ends a line": (b"GET /nothing HTTP/1.1\rHost: a\r\r" + INNER, [400]),
    "a folded header": (get("X: a", "\tb") + INNER, [400]),
    "a space before the first header": (get(" X: a", host="") + INNER, [400]),
    "a header without a name": (get(": a") + INNER, [400]),
    "a header without a colon": (get("X") + INNER, [400]),
    "NUL in a name": (get("X\0: a") + INNER, [400]),
    "NUL in a value": (get("X: a\0") + INNER, [400]),
    "a space in the version": (b"GET /nothing HTTP/ 1.1\r\nHost: a\r\n\r\n" + INNER, [400]),
    "a long version": (get(version="HTTP/1.10") + INNER, [400]),
    "HTTP/0.9": (b"GET /nothing\r\n\r\n" + INNER, [400]),
    "a target with a space": (get(target="/a b") + INNER, [400]),
    "a target with a CR": (b"GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n" + INNER, [400]),
    # Hosts.
    "two Hosts": (get("Host: b") + INNER, [400]),
    "two equal Hosts": (get("Host: a") + INNER, [400]),
    "no Host": (get(host="") + INNER, [400]),
    "Host with a space": (get(host="Host: a b") + INNER, [400]),
    "Host with an at sign": (get(host="Host: a@b") + INNER, [400]),
    "absolute form of another host": (get(target="http://b/nothing") + INNER, [400]),
    "absolute form of the same host": (get(target="http://a/nothing") + INNER, [404, 404]),
    # Pipelining.
    "three requests": (get() + get() + get(), [404, 404, 404]),
    "a request after Connection: close": (get("Connection: close") + INNER, [404]),
    "a request after a refused one": (get() + b"GARBAGE\r\n\r\n" + INNER, [404, 400]),
    "an empty line before a request": (b"\r\n" + get() + INNER, [404, 404]),
    # Opening handshakes.
    "a handshake with a body": (handshake_request("/echo", CL5) + b"hello" + INNER, [400]),
    "a handshake with a chunked body": (handshake_request("/echo", TE) + ZERO + INNER, [400]),
    "a handshake of HTTP/1.0": (handshake_request("/echo", version="HTTP/1.0") + INNER, [400]),
    "a handshake by POST": (handshake_request("/echo", method="POST") + INNER, [405]),
    "a handshake for two Hosts": (handshake_request("/echo", "Host: b") + INNER, [400]),
    "a handshake with two keys": (handshake_request("/echo", f"Sec-WebSocket-Key: {KEY}") + INNER, [400]),
    "a handshake with a wrong version": (
        handshake_request("/echo", replace={"Sec-WebSocket-Version": "777"}) + INNER,
        [426],
    ),
    "a handshake for another protocol": (handshake_request("/nothing", replace={"Upgrade": "h2c"}) + INNER, [426, 404]),
    "a refused handshake": (handshake_request("/nothing") + INNER, [404]),
}


def statuses_of(server, data):
    """Send bytes and half-close; return the statuses of all responses."""
    with server.connect() as peer:
        peer.send(data)
        peer.socket.shutdown(socket.SHUT_WR)
        rest, statuses = peer.read_to_end(), []
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 "), head
            statuses.append(int(head[9:12]))
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            assert len(lengths) == 1, head
            rest = rest[int(lengths[0].partition(b":")[2]) :]
        return statuses


@pytest.fixture(scope="module")
def strict(start_module_server):
    return start_module_server("--catch-all", "off", "--log-max-rate", "0")


def test_t05_every_request_is_read_in_one_way(strict, figures):
    """A request that two programs could read differently gets 400, and nothing after it is read."""
    got = {name: statuses_of(strict, data) for name, (data, _) in CASES.items()}
    wrong = {name: (got[name], expected) for name, (_, expected) in CASES.items() if got[name] != expected}
    figures.at_least(60, len(CASES), "requests")
    figures.at_most(0, len(wrong), "wrong answers", "", wrong)
    responses = sum(map(len, got.values()))
    log = strict.log()
    rendered = log.count(" 404 ") + log.count("connection refused status=")
    figures.at_most(0, abs(responses - rendered), "responses without a line in the log")


def test_t05_frames_sent_with_the_handshake_are_not_lost(strict, figures):
    """Frames in the same packet as the opening handshake are answered, all of them, and the connection goes on."""
    count = 2000
    with strict.connect() as peer:
        peer.send(handshake_request("/echo") + b"".join(frame(TEXT, b"%d" % number) for number in range(count)))
        assert peer.read_response().status == 101
        answers = [peer.read_message() for _ in range(count)]
        assert answers == [str(number) for number in range(count)]
        assert peer.echoes()
    figures.at_most(0, count - len(answers), "frames lost of 2,000")

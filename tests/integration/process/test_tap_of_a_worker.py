"""The tap of a connection that another worker process serves."""

import json

from peers import TEXT, RawPeer
from server_process import Process
from waiting import wait_until

SECRET = "cd" * 16


def ask(port, target):
    """Ask for a tap on a connection of its own; returns the status, and the rest of the response."""
    with RawPeer(port) as peer:
        peer.send(f"GET {target}&format=jsonl&follow=0 HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        answer = peer.read_to_end().decode()
    return int(answer.split(" ")[1]), answer


def test_a_client_that_tries_again_reaches_the_worker_with_the_connection():
    """Every refusal explains that, and closes the connection, so that the next request can reach another worker."""
    process = Process("--workers", "2")
    try:
        with RawPeer(process.port) as peer:
            head = peer.handshake(f"/echo?tap={SECRET}")
            name, secret = head.header("wsserver-connection-id"), head.header("wsserver-tap-secret")
            peer.send_frame(TEXT, b"hello")
            assert peer.read_message() == "hello"
            for target in (f"/tap/{SECRET}?a=b", f"/tap/{name}?secret={secret}"):
                answers = []

                def has_both(answers=answers, target=target):
                    answers.append(ask(process.port, target))
                    return {status for status, _ in answers} >= {200, 404}

                wait_until(has_both, f"an answer of each worker to {target}")
                found = dict(answers)
                assert set(found) == {200, 404}
                assert "retry on a new connection" in found[404]
                assert "Connection: close" in found[404]
                texts = [json.loads(line).get("text") for line in found[200].splitlines() if '"hello"' in line]
                assert texts == ["hello", "hello"]
    finally:
        process.process.terminate()
        process.process.wait(30)
        process.close()

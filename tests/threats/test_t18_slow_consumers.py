"""T18: subscribers that do not read."""

import select
import time

from arena import KIB, unaffected
from attackers import Attacker, open_all
from http_api import KEY
from peers import RawPeer

LIMIT = 1024


def subscribe(port, count, seconds, orders):
    """Open subscribers; return how many publications each received until the order to end."""
    sockets = open_all(port, count, "/ws?channel=news")
    poller, received = select.epoll(), {}
    for sock in sockets:
        sock.setblocking(False)
        received[sock.fileno()] = [sock, 0]
        poller.register(sock.fileno(), select.EPOLLIN)
    poller.register(orders.fileno(), select.EPOLLIN)
    orders.send("ready")
    end, ending = time.monotonic() + seconds, False
    while time.monotonic() < end and not ending:
        for fd, _ in poller.poll(0.1):
            if fd == orders.fileno():
                ending = True
                continue
            data = received[fd][0].recv(1024 * 1024)
            received[fd][1] += len(data)
            if not data:
                raise ConnectionError("a good subscriber was closed")
    return [size for _, size in received.values()]


def publish(peer, data):
    body = b'{"channel":"news","data":"%b"}' % data
    assert peer.request("/api/publish", f"X-API-Key: {KEY}", method="POST", body=body).status == 200


def test_t18_subscribers_that_do_not_read_are_closed(start_server, figures, full):
    """
    A subscriber that does not read is closed when 1 MiB is queued, beyond the kernel's 4 MiB; others lose nothing.

    The limit of the memory for each is 1 MiB instead of 512 KiB: `--max-queued-bytes` permits a queue of this size.
    """
    from multiprocessing import Pipe

    server = start_server("--channel-allow", "*", "--history-size", "0", "--log-max-rate", "0", message_limit=None)
    count, stuck, size, rate = (990, 10, 10_000, 15) if full else (40, 10, 60_000, 40)
    ours, theirs = Pipe()
    with unaffected(server, figures), Attacker(subscribe, server.port, count, 120, theirs) as good:
        assert ours.poll(60)
        ours.recv()
        bad = open_all(server.port, stuck, "/ws?channel=news", receive_buffer=4096)
        before, peak = server.rss(), 0
        data, sent, begin, closed_after = b"x" * size, 0, time.monotonic(), None
        with RawPeer(server.port) as peer:
            while time.monotonic() < begin + (60 if full else 20):
                publish(peer, data)
                sent += 1
                peak = max(peak, server.rss())
                if closed_after is None and server.log().count("code=1013") >= stuck:
                    closed_after = time.monotonic() - begin
                    filled = sent * size
                if closed_after is not None and time.monotonic() > begin + closed_after + 1:
                    break
                time.sleep(max(0, begin + sent / rate - time.monotonic()))
            time.sleep(1)
            ours.send("end")
        sizes = good.result()
        for sock in bad:
            sock.close()
    assert closed_after is not None, "the subscribers that do not read are not closed"
    # A frame has a header of 4 bytes. Subscribers that have also received a ping have more bytes.
    lost = sum(max(0, sent * (size + 4) - got) for got in sizes)
    figures.at_most(0, lost, f"bytes lost by {count} other subscribers")
    # The kernel takes 4 MiB for each socket before the server queues anything.
    figures.at_most(
        (4 * KIB + 2 * LIMIT) / (rate * size / KIB) + 5, closed_after, "time until all are closed", "s", filled
    )
    figures.at_most(LIMIT, (peak - before) / KIB / stuck, "memory for each of them", "KiB")

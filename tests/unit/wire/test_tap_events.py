"""The events of a tap: what is kept, what readers miss, and how the end is described."""

from collections import defaultdict

import pytest
from peers import CLOSE, PING, PONG, TEXT, close_payload, frame

from wsserver.wire.http11 import parse
from wsserver.wire.metering import Allowance
from wsserver.wire.tap_events import FRAMES_PER_SECOND, MAX_FRAMES, MAX_FRAMES_AT_ONCE, MAX_KEPT, MAX_KEPT_EVENTS, Tap


class Owner:
    """Stands for the taps of the server."""

    def __init__(self):
        self.forgotten = []
        self.shown = Allowance(FRAMES_PER_SECOND, 0, MAX_FRAMES_AT_ONCE)
        self.limits = defaultdict(int)

    def ended(self, tap):
        self.forgotten.append(tap)

    def connection_id(self, number):
        return f"id-{number}"


class Reader:
    """Remembers what it was told."""

    payload = 100

    def __init__(self):
        self.events, self.missed, self.has_ended = [], [], False

    def on_event(self, event):
        self.events.append(event.fields)

    def on_gap(self, missed):
        self.missed.append(missed)

    def on_end(self):
        self.has_ended = True


RESPONSE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture
def now():
    """Return the time, which tests change."""
    return [100.0]


@pytest.fixture
def tap(now):
    made = Tap(Owner())
    made.begin(lambda: now[0], 1000)
    made.request(request("/echo?tap=0123456789abcdef0123456789abcdef", "Cookie: id=1"))
    made.sent(RESPONSE)
    return made


def request(target, *headers):
    return parse("\r\n".join([f"GET {target} HTTP/1.1", "Host: a", *headers]).encode(), 10_000)


def types(reader):
    return [fields["type"] for fields in reader.events]


class HandshakeTests:
    """The first events."""

    def test_secrets_are_removed_from_the_handshake(self, tap):
        reader = Reader()
        tap.add_reader(reader)
        sent, response = reader.events
        assert sent["line"] == "GET /echo?tap=[secret] HTTP/1.1"
        assert sent["headers"] == [["host", "a"], ["cookie", "id=[secret]"]]
        assert response["line"] == "HTTP/1.1 101 Switching Protocols"

    def test_a_response_may_arrive_in_pieces_with_a_frame_behind_it(self, now):
        made = Tap(Owner())
        made.begin(lambda: now[0], 1000)
        made.request(request("/"))
        for byte in RESPONSE + frame(PING, b"p", masked=False):
            made.sent(bytes([byte]))
        reader = Reader()
        made.add_reader(reader)
        assert types(reader) == ["handshake", "handshake", "frame"]

    def test_what_follows_another_status_is_no_frame(self, now):
        made = Tap(Owner())
        made.begin(lambda: now[0], 1000)
        made.request(request("/"))
        made.sent(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")
        reader = Reader()
        made.add_reader(reader)
        assert types(reader) == ["handshake", "handshake", "bytes"]


class KeptTests:
    """What a tap keeps for readers that come later."""

    def test_a_late_reader_gets_the_first_events_then_the_gap_then_further_events(self, tap):
        for _ in range(MAX_KEPT_EVENTS + 10):
            tap.received(frame(TEXT, b"a"))
        reader = Reader()
        tap.add_reader(reader)
        assert (len(reader.events), reader.missed) == (MAX_KEPT_EVENTS, [12])
        tap.received(frame(TEXT, b"b"))
        assert reader.events[-1]["id"] == MAX_KEPT_EVENTS + 13

    def test_the_end_is_kept_after_a_gap(self, tap):
        for _ in range(MAX_KEPT_EVENTS + 10):
            tap.received(frame(TEXT, b"a"))
        tap.end()
        reader = Reader()
        tap.add_reader(reader)
        assert (reader.events[-1]["type"], reader.missed, reader.has_ended) == ("end", [12], True)

    def test_large_payloads_do_not_displace_all_later_events(self, tap):
        for _ in range(100):
            tap.received(frame(TEXT, b"x" * 60_000))
        assert sum(len(event.payload or b"") for event in tap._kept) <= MAX_KEPT + 300
        assert len(tap._kept) > 50

    def test_a_reader_that_knows_some_events_gets_the_later_ones(self, tap):
        tap.received(frame(TEXT, b"a") * 3)
        reader = Reader()
        tap.add_reader(reader, after=4)
        assert [fields["id"] for fields in reader.events] == [5]

    def test_a_reader_that_comes_again_is_told_only_what_it_does_not_know(self, tap):
        for _ in range(MAX_KEPT_EVENTS + 10):
            tap.received(frame(TEXT, b"a"))
        reader = Reader()
        tap.add_reader(reader, after=MAX_KEPT_EVENTS + 5)
        assert (reader.events, reader.missed) == ([], [7])

    def test_a_flood_leaves_a_gap_and_not_the_end(self, tap):
        reader = Reader()
        tap.add_reader(reader)
        tap.received(frame(TEXT, b"a") * 3000 + frame(CLOSE, close_payload(1000)))
        tap.end()
        assert reader.missed == [3000 - 1024]
        assert [fields["id"] for fields in reader.events[-2:]] == [3003, 3004]
        assert (reader.events[-1]["closed_by"], tap._owner.limits["tap_frames"]) == ("client", 1)
        late = Reader()
        tap.add_reader(late)
        assert late.missed == [3004 - 1 - MAX_KEPT_EVENTS]


class SharedTests:
    """What all taps of a server may show together."""

    FLOOD = frame(TEXT, b"a") * MAX_FRAMES

    @pytest.fixture
    def flood(self, now):
        """Return a function that passes a flood to taps with readers, and returns how many frames each showed."""
        owner = Owner()

        def start(count, readers):
            made = [Tap(owner) for _ in range(count)]
            for tap in made:
                tap.begin(lambda: now[0], 1000)
                tap.request(request("/echo"))
                tap.sent(RESPONSE)
                for _ in range(readers):
                    tap.add_reader(Reader())
            # Nothing that passed before counts.
            now[0] += 10
            for tap in made:
                tap.received(self.FLOOD)
            return [sum(one["type"] == "frame" for one in tap.readers[0].events) for tap in made]

        return start

    def test_floods_on_many_connections_share_a_limit_and_each_shows_a_few_frames(self, flood):
        shown = flood(20, readers=1)
        assert (shown[0], shown[-1]) == (MAX_FRAMES, 2)
        assert sum(shown) <= MAX_FRAMES_AT_ONCE // 2 + 20 * 2

    def test_every_reader_counts(self, flood):
        assert sum(flood(20, readers=4)) <= MAX_FRAMES_AT_ONCE // 5 + 20 * 2

    def test_a_later_flood_is_shown_again(self, flood):
        flood(20, readers=1)
        assert flood(1, readers=1) == [MAX_FRAMES]

    def test_large_payloads_count_more(self, now):
        owner = Owner()
        tap = Tap(owner)
        tap.begin(lambda: now[0], 100_000)
        tap.request(request("/echo"))
        tap.sent(RESPONSE)
        reader = Reader()
        reader.payload = 65536
        tap.add_reader(reader)
        for _ in range(5):
            tap.received(frame(TEXT, b"a" * 40_000) * 50)
        shown = sum(one["type"] == "frame" for one in reader.events)
        assert shown <= MAX_FRAMES_AT_ONCE // 20 + 50
        assert sum(reader.missed) == 250 - shown

    def test_a_tap_that_must_show_all_is_not_limited(self, tap):
        tap.shows_all = True
        reader = Reader()
        tap.add_reader(reader)
        tap.received(self.FLOOD * 10)
        assert reader.missed == []


class ControlTests:
    """Pings, pongs and Close frames."""

    def test_a_pong_has_the_round_trip_of_its_ping(self, tap, now):
        tap.sent(frame(PING, b"1", masked=False) + frame(PING, b"2", masked=False))
        now[0] += 0.25
        reader = Reader()
        tap.add_reader(reader)
        tap.received(frame(PONG, b"2") + frame(PONG, b"unasked"))
        assert reader.events[-2]["round_trip"] == 0.25
        assert "round_trip" not in reader.events[-1]

    def test_pings_without_a_pong_are_not_kept_for_ever(self, tap):
        for number in range(1000):
            tap.received(frame(PING, b"%d" % number))
        assert len(tap._pings["in"]) <= 16

    def test_the_end_says_who_closed_first_and_how_long_the_other_took(self, tap, now):
        tap.sent(frame(CLOSE, close_payload(1012, "restart"), masked=False))
        now[0] += 0.5
        tap.received(frame(CLOSE, close_payload(1012)))
        tap.dropping("close")
        tap.end()
        reader = Reader()
        tap.add_reader(reader)
        end = reader.events[-1]
        assert end | {"id": 0, "t": 0} == {
            "id": 0,
            "t": 0,
            "type": "end",
            "clean": True,
            "closed_by": "server",
            "dropped_by": "server",
            "code": 1012,
            "reason": "restart",
            "close_seconds": 0.5,
        }

    def test_an_end_within_a_frame_shows_what_has_passed(self, tap):
        tap.received(frame(TEXT, b"hello")[:8])
        tap.end("reset")
        reader = Reader()
        tap.add_reader(reader)
        cut, end = reader.events[-2:]
        assert (cut["type"], cut["wire_length"], cut["declared_length"]) == ("cut", 8, 5)
        assert (end["clean"], end["closed_by"], end["error"]) == (False, "", "reset")

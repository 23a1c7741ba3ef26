"""Tests for wsserver/redis/encoding.py: names and messages in Redis."""

import pytest

from wsserver.errors import BrokerDown
from wsserver.hub.clients import ClientInfo, write_info
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication, pack
from wsserver.hub.stream import Page, Position
from wsserver.redis.encoding import (
    MALFORMED,
    channel_of,
    first_entry,
    key_of,
    parse_message,
    parse_page,
    redis_channels,
    tag_of,
    write_message,
)


@pytest.mark.parametrize("channel", ["foo", "chat:a b", "{foo}", "ü"])
def test_channel_of_returns_the_channel_for_both_of_its_redis_channels(channel):
    plain, private = redis_channels(channel)
    assert plain == channel.encode()
    assert private == b"wsserver:pub:{%s}" % channel.encode()
    assert (channel_of(plain), channel_of(private)) == (channel, channel)


def test_the_key_of_a_channel_contains_it_as_the_hash_tag():
    assert key_of("history", tag_of("foo")) == b"wsserver:history:{foo}"


def test_parses_a_publication_with_its_position():
    packed = pack(Publication(b"a:b"))
    parsed = parse_message(b"p:7:epoch:" + packed)
    assert (parsed.data, parsed.offset, parsed.epoch) == (b"a:b", 7, "epoch")


@pytest.mark.parametrize(
    ("publication", "written"),
    [
        (Publication(b"hello"), b"\nhello"),
        (Publication(b""), b"\n"),
        (Publication(b"{}\n{}"), b"\n{}\n{}"),
        (Publication(b'"42"', json=True), b'{"json":true}\n"42"'),
        (Publication(b'{"a":\n1}', json=True, tags={"a": "b"}), b'{"json":true,"tags":{"a":"b"}}\n{"a":\n1}'),
        (Publication(b"1", json=True, delta=True), b'{"json":true,"delta":true}\n1'),
        (Publication(b"\xff", info=ClientInfo("c", "u")), b'{"info":{"client":"c","user":"u"}}\n\xff'),
    ],
)
def test_the_format_is_the_one_that_running_servers_of_other_versions_read(publication, written):
    """Servers of two versions share one Redis during an upgrade, so a change of the format needs a plan."""
    assert pack(publication) == written
    assert write_message(publication) == b"p:0::" + written
    assert parse_message(b"p:0::" + written) == publication
    assert parse_page([0, b"", [[b"0-0", [b"d", written]]]]).publications == (publication,)


def test_parses_every_field_of_a_publication_and_shares_no_tags_between_two():
    """The header of a publication is kept after it was parsed."""
    info = ClientInfo("client", "user", {"a": [1]}, "x")
    packed = pack(Publication(b"1", json=True, info=info, tags={"ü": '"'}))
    one, other = parse_message(b"p:1:e:" + packed), parse_message(b"p:2:e:" + packed)
    assert one == Publication(b"1", 1, "e", True, info, {"ü": '"'})
    assert other.tags == one.tags
    assert other.tags is not one.tags


@pytest.mark.parametrize("header", [b"{", b"[]", b'{"info":{}}', b'{"info":1}', b"\xff"])
def test_a_malformed_header_raises_each_time(header):
    for _ in range(2):
        with pytest.raises(MALFORMED):
            parse_message(b"p:1:e:" + header + b"\nx")


@pytest.mark.parametrize(("kind", "joined"), [(b"j", True), (b"l", False)])
def test_parses_a_join_and_a_leave_event(kind, joined):
    info = ClientInfo("client", "user")
    assert parse_message(kind + b":" + write_info(info)) == PresenceEvent(joined, info)


@pytest.mark.parametrize("data", [b"", b"p:", b"p:x:e:", b"j:", b"j:[" * 10, b"p:1:\xff:x"])
def test_raises_one_of_the_listed_exceptions_for_a_malformed_message(data):
    with pytest.raises(MALFORMED):
        parse_message(data)


@pytest.mark.parametrize(
    ("since", "reverse", "entry"),
    [
        (None, False, "-"),
        (None, True, "+"),
        (Position(5, "e"), False, "6-0"),
        (Position(5, "e"), True, "4-0"),
        (Position(0, "e"), True, "0-0"),
        (Position(2**70, "e"), False, f"{2**63 + 1}-0"),
    ],
)
def test_a_read_begins_at_the_entry_next_to_the_position(since, reverse, entry):
    assert first_entry(since, reverse=reverse) == entry


def test_parses_a_page_of_the_stream():
    entries = [[b"3-0", [b"d", pack(Publication(b"x"))]]]
    page = parse_page([4, b"e", entries])
    assert [(each.data, each.offset, each.epoch) for each in page.publications] == [(b"x", 3, "e")]
    assert page == Page(page.publications, Position(4, "e"))


def test_an_entry_of_another_program_raises_broker_down():
    with pytest.raises(BrokerDown, match="an entry in an unknown format"):
        parse_page([4, b"e", [[b"3-0", [b"d", b"[1]\nx"]]]])

"""Channel names, patterns, the query of a subscribe request, and the formats of publications."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsserver.endpoints.raw.formats import write_publication
from wsserver.endpoints.raw.request import UNKNOWN_POSITION, Format, parse_query
from wsserver.errors import InvalidChannel, ReservedChannel
from wsserver.hub.names import MAX_NAME, Patterns, parse_name
from wsserver.hub.publication import Publication
from wsserver.wire.http11 import Refusal


class NameTests:
    """`parse_name`: which channel names are valid."""

    @pytest.mark.parametrize("name", ["a", "chat:1", "grüße", "a b", "x" * MAX_NAME, "*", "wsserver", "a,b"])
    def test_accepts_text_of_up_to_255_bytes_without_control_characters(self, name):
        assert parse_name(name) == name

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("", "channel name is empty"),
            ("x" * (MAX_NAME + 1), r"channel name 'x{77}\.\.\.' is 256 bytes long; expected at most 255"),
            ("ü" * 128, r"is 256 bytes long; expected at most 255"),
            ("a\0", r"channel name 'a\\x00' contains a control character"),
            ("\x85", "contains a control character"),
            ("\ud83d", r"channel name '\\ud83d' contains half of a surrogate pair"),
        ],
    )
    def test_raises_invalid_channel_with_the_name_and_the_reason(self, name, message):
        """The error is a ValueError, for applications."""
        with pytest.raises(InvalidChannel, match=message) as caught:
            parse_name(name)
        assert type(caught.value) is InvalidChannel
        assert isinstance(caught.value, ValueError)

    def test_raises_reserved_channel_for_the_servers_own_names(self):
        """The server's own keys and channels in Redis have the prefix `wsserver:`."""
        with pytest.raises(ReservedChannel, match="channel name 'wsserver:x' is reserved"):
            parse_name("wsserver:x")


class PatternTests:
    """`Patterns`: which names match."""

    @pytest.mark.parametrize(
        ("patterns", "name", "inside"),
        [
            (["news"], "news", True),
            (["news"], "newsx", False),
            (["news"], "xnews", False),
            (["chat:*"], "chat:1", True),
            (["chat:*"], "chat", False),
            (["*"], "", True),
            (["*"], "a\nb", True),
            (["a*c"], "abbc", True),
            (["a.c"], "abc", False),
            (["[a]"], "a", False),
            (["x", "y"], "y", True),
            (["*a*b*"], "xaxbx", True),
            (["*a*b*"], "ba", False),
            (["ab*ba"], "aba", False),
            (["ab*ba"], "abba", True),
            (["a*b*b"], "ab", False),
            (["a*b*b"], "abb", True),
            (["**"], "", True),
            (["a**c"], "ac", True),
            (["*ab*ab"], "abab", True),
            (["*ab*ab"], "abcab", True),
            (["*ab*ab"], "aab", False),
            ([], "", False),
        ],
    )
    def test_an_asterisk_matches_any_characters_and_nothing_else_is_special(self, patterns, name, inside):
        assert (name in Patterns(patterns)) is inside

    @given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
    def test_matches_the_same_names_as_a_regular_expression(self, pattern, name):
        """A regular expression takes exponential time for some patterns."""
        assert (name in Patterns([pattern])) is (re.fullmatch(pattern.replace("*", ".*"), name) is not None)

    def test_a_pattern_with_128_asterisks_is_matched_without_backtracking(self):
        """With backtracking, this test would not end."""
        assert "a" * 255 not in Patterns(["*a" * 127 + "*b"])
        assert "a" * 255 in Patterns(["*a" * 127 + "*"])

    @given(st.text(max_size=20))
    def test_a_name_without_an_asterisk_matches_only_itself(self, name):
        if "*" not in name:
            assert name in Patterns([name])
            assert name + "x" not in Patterns([name])


class QueryTests:
    """`parse_query`: the query of a raw subscribe request."""

    def test_reads_several_channels_each_once_in_order(self):
        request = parse_query({"channel": ["b,a", "b", "c"]}, Format.RAW)
        assert request.channels == ("b", "a", "c")
        assert (request.format, request.binary) == (Format.RAW, False)

    def test_reads_the_parameters_format_and_binary(self):
        request = parse_query({"channel": ["a"], "format": ["redis"], "binary": ["1"]}, Format.JSON)
        assert (request.format, request.binary) == (Format.REDIS, True)

    def test_reads_the_number_of_publications_to_rewind(self):
        assert parse_query({"channel": ["a"]}, Format.RAW).rewind is None
        for number in (0, 1, 100):
            assert parse_query({"channel": ["a"], "rewind": [str(number)]}, Format.RAW).rewind == number

    def test_names_the_bounds_of_an_invalid_rewind(self):
        refusal = parse_query({"channel": ["a"], "rewind": ["all"]}, Format.RAW)
        assert refusal.reason == "rewind='all': expected a whole number from 0 to 100"

    @pytest.mark.parametrize(
        "query",
        [
            {},
            {"channel": []},
            {"channel": [""]},
            {"channel": ["a,,b"]},
            {"channel": ["a"], "format": ["raw", "raw"]},
            {"channel": ["a"], "format": ["RAW"]},
            {"channel": ["a"], "binary": [""]},
            {"channel": ["a"], "last_event_id": ["e:1", "e:2"]},
            {"channel": ["a"], "last_event_id": ["nonsense"]},
            *({"channel": ["a"], "rewind": [text]} for text in ("", "-1", "1.5", "x", "101", "1" * 5000, "\u0663")),
            {"channel": ["a"], "rewind": ["1", "1"]},
        ],
    )
    def test_refuses_an_invalid_query_with_400_and_a_reason(self, query):
        refusal = parse_query(query, Format.RAW)
        assert isinstance(refusal, Refusal)
        assert refusal.status == 400
        assert refusal.reason

    @pytest.mark.parametrize("name", ["_", "v", "utm_source", "cf_protocol", "x", "platform", "topic", ""])
    def test_ignores_unknown_parameters_of_other_programs(self, name):
        """Libraries, proxies and trackers append parameters of their own."""
        assert parse_query({"channel": ["a"], name: ["1"]}, Format.RAW).channels == ("a",)

    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("chanel", "channel"),
            ("Channel", "channel"),
            ("channels", "channel"),
            ("formatt", "format"),
            ("binay", "binary"),
            ("last_event", "last_event_id"),
            ("lastEvenId", "last_event_id"),
            ("filters", "filter"),
            ("tokn", "token"),
            ("re-wind", "rewind"),
            ("rewnd", "rewind"),
            ("accessToken", "access_token"),
        ],
    )
    def test_refuses_a_misspelled_parameter_and_names_the_nearest(self, name, near):
        """If it were ignored, the client would silently not get what it has requested."""
        refusal = parse_query({"channel": ["a"], name: ["1"]}, Format.RAW)
        assert (refusal.status, refusal.reason) == (400, f"unknown parameter '{name}': expected {near}")

    @pytest.mark.parametrize("name", ["last_event_id", "lastEventId", "Last-Event-ID", "last-event-id", "lastEventID"])
    def test_reads_the_last_event_id_in_every_spelling(self, name):
        """The spellings are the server's own, that of EventSource polyfills, and that of Mercure."""
        assert parse_query({"channel": ["a"], name: ["e:7"]}, Format.RAW).last_event_id == "e:7"

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({"last_event_id": ["e:1"], "lastEventId": ["e:9"]}, "e:9"),
            ({"last_event_id": ["e:1"], "lastEventId": [""]}, "e:1"),
            ({"lastEventId": ["e:9"], "Last-Event-ID": ["e:9"]}, "e:9"),
            ({"lastEventId": ["e:9"], "Last-Event-ID": ["e:8"]}, UNKNOWN_POSITION),
            ({"lastEventId": ["abc"]}, UNKNOWN_POSITION),
            ({"lastEventId": ["e:1,e:2"]}, UNKNOWN_POSITION),
        ],
    )
    def test_prefers_the_id_that_a_library_appends_to_that_of_the_url(self, values, expected):
        """
        The id that the library appends is newer.

        An unknown id causes a gap notice, because a refusal would stop an EventSource permanently.
        """
        assert parse_query({"channel": ["a"], **values}, Format.RAW).last_event_id == expected

    def test_compiles_one_filter_of_all_conditions(self):
        found = parse_query({"channel": ["a"], "filter": ["ticker:eq:BTC", "price:gt:9"]}, Format.RAW).filter
        assert found.matches({"ticker": "BTC", "price": "10"})
        assert not found.matches({"ticker": "BTC", "price": "9"})
        assert parse_query({"channel": ["a"]}, Format.RAW).filter is None

    def test_refuses_an_invalid_filter_with_400_and_names_the_field(self):
        refusal = parse_query({"channel": ["a"], "filter": ["ticker:eq"]}, Format.RAW)
        assert (refusal.status, refusal.reason) == (400, "filter.val: missing for eq")


class FormatTests:
    """`write_publication`: a publication in each format."""

    @pytest.mark.parametrize(
        ("form", "publication", "payload", "first"),
        [
            (Format.RAW, Publication(b"hello"), b"hello", 0x81),
            (Format.RAW, Publication(b"\xff"), b"\xff", 0x82),
            (Format.JSON, Publication(b"hello"), b'{"channel":"foo","data":"hello"}', 0x81),
            (Format.JSON, Publication(b"\xff"), b'{"channel":"foo","b64data":"/w=="}', 0x81),
            (Format.JSON, Publication(b'{"a":1}'), b'{"channel":"foo","data":"{\\"a\\":1}"}', 0x81),
            (Format.JSON, Publication(b'{"a":1}', json=True), b'{"channel":"foo","data":{"a":1}}', 0x81),
            (Format.JSON, Publication(b'{ "a":1.10}', json=True), b'{"channel":"foo","data":{ "a":1.10}}', 0x81),
            (Format.JSON, Publication(rb'"\u0041b"', json=True), rb'{"channel":"foo","data":"\u0041b"}', 0x81),
            (Format.RAW, Publication(rb'"\u0041b"', json=True), b"Ab", 0x81),
            (Format.RAW, Publication(b'{ "a":1.10}', json=True), b'{ "a":1.10}', 0x81),
            # UTF-8 cannot encode half a surrogate pair.
            (Format.RAW, Publication(rb'"\ud83d"', json=True), rb'"\ud83d"', 0x81),
            (Format.REDIS, Publication(rb'"\u0041b"', json=True), b'["message","foo","Ab"]', 0x81),
            (Format.JSON, Publication(b"x", 7, "e"), b'{"channel":"foo","data":"x","offset":7,"epoch":"e"}', 0x81),
            (Format.REDIS, Publication(b"hello"), b'["message","foo","hello"]', 0x81),
            (Format.REDIS, Publication(b"\xff"), b'["message","foo","/w==","base64"]', 0x81),
        ],
    )
    def test_writes_the_payload_and_the_opcode_of_each_format(self, form, publication, payload, first):
        """If the client requests `binary`, every frame is binary."""
        assert write_publication("foo", publication, form) == (payload, first)
        assert write_publication("foo", publication, form, binary=True) == (payload, 0x82)

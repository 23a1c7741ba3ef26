"""The parameters of the API's methods, and their results."""

import json

import pytest

from wsserver.hub.clients import ClientInfo
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Page, Position
from wsserver.jsonfields import decode
from wsserver.web import parameters as p


def read(kind, parameters):
    """Write parameters as JSON, and decode them as the API does."""
    return decode(kind, json.dumps(parameters).encode())


class ValidParametersTests:
    """Parameters that the API accepts."""

    @pytest.mark.parametrize(
        ("parameters", "data", "is_json"),
        [
            ({"data": "grüße"}, b'"gr\\u00fc\\u00dfe"', True),
            ({"data": ""}, b'""', True),
            ({"data": {"a": [1, "ü"]}}, b'{"a": [1, "\\u00fc"]}', True),
            ({"data": "\ud800"}, b'"\\ud800"', True),
            ({"data": ["\ud800"]}, b'["\\ud800"]', True),
            ({"data": None}, b"null", True),
            ({"data": 42}, b"42", True),
            ({"b64data": "/wA="}, b"\xff\x00", False),
            ({"b64data": "/wA=", "data": {}}, b"\xff\x00", False),
            ({"b64data": "eyJh\r\nIjox\nfQ==\n"}, b'{"a":1}', False),
            ({"b64data": "", "data": 1}, b"1", True),
        ],
    )
    def test_publishes_the_json_text_as_written_or_the_bytes_of_base64(self, parameters, data, is_json):
        """Numbers, escapes and white space are kept."""
        assert read(p.Content, parameters).publication() == Publication(data, json=is_json)

    @pytest.mark.parametrize("nothing", [False, True])
    def test_uses_the_default_for_a_missing_or_null_parameter(self, nothing):
        """Missing and null mean the same, except in the data of a publication."""

        def plain(kind, **more):
            names = [name for name in kind.__struct_fields__ if name not in more]
            return read(kind, {**more, **(dict.fromkeys(names) if nothing else {})})

        content = plain(p.Content, data=1)
        assert content.publication() == Publication(b"1", json=True, tags=None)
        assert (content.idempotency_key, content.skip_history, content.delta) == ("", False, False)
        history = plain(p.History, channel="c")
        assert (history.limit, history.since, history.reverse) == (0, None, False)
        assert plain(p.Disconnect, user="u").disconnect is None
        assert plain(p.Disconnect, user="u").whitelist == []
        assert plain(p.Subscribe, channel="c", user="u").options() == {}
        assert plain(p.Refresh, user="u").expire_at == 0
        connections = plain(p.Connections)
        assert (connections.user, connections.client, connections.pattern) == ("", "", "")

    def test_reads_each_given_parameter_in_its_type(self):
        assert read(p.Content, {"data": 1, "tags": {"a": "b"}}).publication().tags == {"a": "b"}
        assert read(p.Content, {"data": 1, "tags": {"a": None}}).publication().tags == {"a": ""}
        assert read(p.History, {"channel": "c", "limit": -7}).limit == -7
        assert read(p.Since, {"offset": 7, "epoch": "x"}).position() == Position(7, "x")
        assert read(p.History, {"channel": "c", "since": {}}).since.position() == Position(0, "")
        assert read(p.Code, {"code": 4000, "reason": "go"}) == p.Code(4000, "go")
        assert read(p.Code, {"code": 0, "reason": ""}) == p.Code()
        assert read(p.Disconnect, {"client": "c", "whitelist": ["d"]}).whitelist == ["d"]
        options = {"info": {"a": 1}, "data": 0, "expire_at": 5, "recover_since": {"offset": 1, "epoch": "x"}}
        call = read(p.Subscribe, {"channel": "c", "client": "c", **options, "override": {}})
        assert call.options() == {**options, "data": b"0"}
        call = read(
            p.Subscribe, {"channel": "c", "client": "c", "override": {"force_push_join_leave": {"value": False}}}
        )
        assert call.options() == {"force_push_join_leave": False}

    def test_rounds_a_fractional_expiry_up_to_whole_seconds(self):
        """0 means no expiry, so a fraction of a second must not become 0."""
        assert read(p.Refresh, {"user": "u", "expire_at": 5.25}).expire_at == 6
        assert read(p.Refresh, {"user": "u", "expire_at": 0.25}).expire_at == 1

    def test_ignores_unknown_parameters_and_empty_unsupported_ones(self):
        """Centrifugo does the same."""
        read(p.Parameters, {"new": 1, "version": 0, "session": "", "expression": "", "delta": True})


class InvalidParametersTests:
    """Parameters that the API refuses."""

    @pytest.mark.parametrize(
        ("kind", "parameters"),
        [
            (p.Content, {}),
            (p.Content, {"b64data": "%"}),
            (p.Content, {"b64data": "/w A="}),
            (p.Content, {"b64data": 1}),
            (p.Content, {"tags": {"a": 1}}),
            (p.Content, {"tags": {"\ud800": "a"}}),
            (p.Content, {"tags": []}),
            (p.Content, {"idempotency_key": "ü" * 128}),
            (p.Content, {"idempotency_key": 1}),
            (p.Broadcast, {"channels": []}),
            (p.Broadcast, {"channels": ["c"] * (p.MAX_CHANNELS + 1)}),
            (p.History, {"channel": "c", "limit": "1"}),
            (p.History, {"channel": "c", "since": "x:1"}),
            (p.History, {"channel": "c", "since": {"offset": -1}}),
            (p.History, {"channel": "c", "since": {"offset": 2**53}}),
            (p.History, {"channel": "c", "since": {"offset": 1, "epoch": 1}}),
            (p.Channels, {"pattern": "x" * 256}),
            (p.Channels, {"pattern": 1}),
            (p.Refresh, {}),
            (p.Refresh, {"user": ""}),
            (p.Refresh, {"user": 42}),
            (p.Refresh, {"user": "u", "expire_at": -1}),
            (p.Subscribe, {"channel": "c", "user": "u", "recover_since": {"offset": -1}}),
            (p.History, {"channel": "c", "reverse": True, "since": {"epoch": "e"}}),
            (p.Parameters, {"version": 1}),
            (p.Parameters, {"session": "s"}),
            (p.Parameters, {"expression": "true"}),
            (p.Parameters, {"b64info": "AA=="}),
            (p.Disconnect, {"user": "u", "disconnect": {"code": 1000}}),
            (p.Disconnect, {"user": "u", "disconnect": {"code": 5000}}),
            (p.Disconnect, {"user": "u", "disconnect": {"code": 4000, "reason": "x" * 124}}),
        ],
    )
    def test_names_the_invalid_parameter(self, kind, parameters):
        """
        The invalid parameter is the last one of each list above.

        If the list is empty, it is the missing `data` or `user`.
        """
        name = list(parameters)[-1] if parameters else {p.Content: "data", p.Refresh: "user"}[kind]
        with pytest.raises(ValueError, match=rf"^{name}[.:\[]"):
            read(kind, parameters).publication()

    @pytest.mark.parametrize("name", [None, "", 5, "wsserver:x", "a\n", "\ud800", "x" * 256])
    def test_refuses_an_invalid_channel_name(self, name):
        """The message begins with the parameter's name."""
        with pytest.raises(ValueError, match=r"^channel: "):
            read(p.Channel, {"channel": name})

    @pytest.mark.parametrize("kind", [p.Channel, p.History, p.Publish, p.Subscribe, p.Unsubscribe])
    @pytest.mark.parametrize("parameters", [{}, {"channel": None}, {"chanel": "foo"}])
    def test_says_that_a_channel_is_missing(self, kind, parameters):
        """An empty name is not missing, and has another message."""
        rest = {"user": "u", "data": 1}
        with pytest.raises(ValueError, match=r"^channel: missing: expected a channel name$"):
            read(kind, parameters | rest)
        with pytest.raises(ValueError, match=r"^channel: channel name is empty$"):
            read(kind, {"channel": ""} | rest)


class PageTests:
    """The result of `history`."""

    def test_writes_data_as_json_as_a_string_or_in_base64(self):
        publications = (
            Publication(b'{"a":1}', 1, "e", True),
            Publication(b"hello", 2, "e", tags={"t": "x"}),
            Publication(b"\xff", 3, "e", info=ClientInfo("c", "42")),
            Publication(b'"42"', 4, "e", True),
            Publication(b"42", 5, "e"),
        )
        assert json.loads(p.write_page(Page(publications, Position(3, "e")))) == {
            "publications": [
                {"data": {"a": 1}, "offset": 1},
                {"data": "hello", "offset": 2, "tags": {"t": "x"}},
                {"data": None, "b64data": "/w==", "offset": 3, "info": {"client": "c", "user": "42"}},
                {"data": "42", "offset": 4},
                {"data": 42, "offset": 5},
            ],
            "offset": 3,
            "epoch": "e",
        }

    def test_writes_the_position_of_an_empty_stream(self):
        assert p.write_page(Page((), Position(0, "e"))) == b'{"publications":[],"offset":0,"epoch":"e"}'

    def test_contains_at_most_8_mib_and_the_position_of_the_whole_stream(self):
        """The caller sees from the position that there are more publications."""
        publications = tuple(Publication(b"x" * 1024**2, offset, "e") for offset in range(1, 21))
        page = json.loads(p.write_page(Page(publications, Position(20, "e"))))
        assert [one["offset"] for one in page["publications"]] == list(range(1, 9))
        assert page["offset"] == 20

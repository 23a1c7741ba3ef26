"""Commands, their paths, and the options that change their answers."""

import json
import re
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from peers import BINARY, CLOSE, TEXT, close_payload, connect_autobahn, handshake_request
from websockets.sync.client import connect
from zope.interface import implementer

from wsserver.endpoints.commands import BUILT_IN, ICommand

PATHS = ["/", "/ws", "/ws/", "/anything", "/a/b/c", "/%C3%A9", "/echo2", "//", "/?query=1", "/server.json"]


def ask(peer, text: str) -> str:
    """Send a text and return the answer."""
    peer.send_frame(TEXT, text.encode("utf-8"))
    return peer.read_message()


class PathTests:
    """The paths whose endpoint answers commands."""

    @pytest.mark.parametrize("path", PATHS)
    def test_every_path_without_its_own_endpoint_answers_commands(self, server, path):
        with server.open(path) as peer:
            assert ask(peer, "name") == "my name is wsserver"

    @pytest.mark.parametrize("path", ["/", "/ws", "/echo", "/ticker", "/ws/"])
    def test_without_the_catch_all_the_known_paths_accept_connections(self, start_server, path):
        with start_server(catch_all="off").connect() as peer:
            peer.handshake(path)

    @pytest.mark.parametrize("path", ["/anything", "/echo/more", "/ws2", "/%C3%A9", "/ECHO", "/server.json"])
    def test_without_the_catch_all_an_unknown_path_is_404_and_named(self, start_server, path):
        server = start_server(catch_all="off")
        with server.connect() as peer:
            peer.send(handshake_request(path))
            response = peer.read_response()
            assert response.status == 404
            assert path in response.text
        assert server.serves_the_next()

    @pytest.mark.parametrize(
        ("settings", "answer", "reason"),
        [
            (
                {},
                101,
                (
                    "--catch-all auto, only this machine can reach the server, and no Redis, API, token or hook is "
                    "configured"
                ),
            ),
            (
                {"listen": ("tcp:0:interface=127.0.0.1", "tcp6:0:interface=\\:\\:1")},
                101,
                "--catch-all auto, only this machine can reach the server",
            ),
            (
                {"listen": ("tcp:0:interface=127.0.0.1", "unix:SOCKET")},
                404,
                "--catch-all auto, and other machines can reach the server",
            ),
            ({"interface": "0.0.0.0"}, 404, "--catch-all auto, and other machines can reach the server"),
            ({"interface": "0.0.0.0", "catch_all": "on"}, 101, "--catch-all on"),
            ({"api_key": "hush"}, 404, "--catch-all auto, and --api-key is set"),
        ],
        ids=["loopback", "loopbacks", "unix", "everywhere", "on", "channels"],
    )
    def test_the_catch_all_follows_the_listeners_and_the_log_gives_the_reason(
        self, start_server, log, tmp_path, settings, answer, reason
    ):
        """
        Without options, the server accepts any path, so the pages of tutorials work.

        The field `catchAll` of /server.json and the response to plain HTTP agree with this.
        """
        listen = tuple(text.replace("SOCKET", str(tmp_path / "s")) for text in settings.get("listen", ()))
        server = start_server(**settings | {"listen": listen})
        what = "answer commands" if answer == 101 else "are refused with 404"
        (line,) = [line for line in log.lines("wsserver") if line.startswith("unknown WebSocket paths ")]
        assert line.startswith(f"unknown WebSocket paths {what} ({reason}")
        with server.connect() as peer:
            assert json.loads(peer.request("/server.json").body)["catchAll"] is (answer == 101)
            assert ("WebSocket client may connect" in peer.request("/chat").text) is (answer == 101)
            peer.send(handshake_request("/websocket/server.php"))
            assert peer.read_response().status == answer


class AnswerTests:
    @pytest.mark.parametrize(
        ("text", "word"), [("hello", "Hello"), ("hi", "Hi"), ("HELLO", "Hello"), ("  Hi \r\n", "Hi")]
    )
    def test_a_greeting_is_answered_with_the_clients_address(self, server, text, word):
        """A server that only echoes could not give this answer."""
        with server.open("/") as peer:
            host, port = peer.socket.getsockname()
            assert ask(peer, text) == f"{word}, {host}:{port}!"

    @pytest.mark.parametrize(
        ("text", "answer"),
        [
            ("name", "my name is wsserver"),
            ("thanks", "you're welcome"),
            ("NAME", "my name is wsserver"),
            ("  Thanks \r\n", "you're welcome"),
        ],
    )
    def test_name_and_thanks_are_answered_whatever_their_case_and_white_space(self, server, text, answer):
        with server.open("/") as peer:
            assert ask(peer, text) == answer

    @pytest.mark.parametrize(
        "text", ["", "hello world", "hello,", "unknown", "κόσμε", "hellohello", "{}", " ", "x" * 5000]
    )
    def test_any_other_text_is_echoed(self, server, text):
        with server.open("/") as peer:
            assert ask(peer, text) == text

    def test_a_binary_message_with_the_name_of_a_command_is_echoed(self, server):
        with server.open("/") as peer:
            peer.send_frame(BINARY, b"hello")
            assert peer.read_message() == b"hello"

    def test_age_returns_the_uptime(self, server):
        with server.open("/") as peer:
            assert re.fullmatch(r"0:00:\d\d", ask(peer, "age"))

    def test_date_and_time_are_in_the_zone_of_timezone(self, start_server):
        zone = ZoneInfo("Asia/Kathmandu")
        with start_server(timezone=zone).open("/") as peer:
            before = datetime.now(zone).replace(microsecond=0)
            answer = datetime.fromisoformat(f"{ask(peer, 'date')}T{ask(peer, 'time')}")
            assert ask(peer, "time").endswith("+05:45")
            # The date may change between the two answers, once a day.
            assert abs((answer - before).total_seconds()) < 60 or before.hour == 23

    def test_help_has_one_line_for_each_command(self, server):
        with server.open("/") as peer:
            lines = ask(peer, "help").split("\n")
        assert [line.split(":")[0] for line in lines] == [command.name for command in BUILT_IN]
        assert all(len(line.split(": ", 1)[1]) > 5 for line in lines)

    def test_bye_is_answered_and_closes_autobahn_cleanly_with_1000(self, server):
        peer = connect_autobahn(f"{server.url}/")
        peer.send("bye")
        assert peer.receive() == "Goodbye!"
        closed = peer.wait_closed()
        assert (closed.clean, closed.code, closed.reason) == (True, 1000, "bye")

    def test_bye_is_answered_and_closes_websockets_with_1000(self, server):
        with connect(f"{server.url}/", proxy=None) as peer:
            peer.send("bye")
            assert list(peer) == ["Goodbye!"]
            assert (peer.close_code, peer.close_reason) == (1000, "bye")

    def test_messages_after_bye_are_ignored(self, server):
        """The connection still closes with 1000."""
        with server.open("/") as peer:
            peer.send_frame(TEXT, b"bye")
            peer.send_frame(TEXT, b"hello")
            peer.send_frame(TEXT, b"time")
            assert peer.read_message() == "Goodbye!"
            assert peer.read_close().close_code == 1000
            peer.send_frame(CLOSE, close_payload(1000))
            assert peer.read_to_end() == b""


class PrefixTests:
    """The option --reply-prefix."""

    def test_precedes_echoed_texts_including_an_empty_one(self, start_server):
        with start_server(reply_prefix="sürver: ").open("/ws") as peer:
            assert ask(peer, "good day") == "sürver: good day"
            assert ask(peer, "") == "sürver: "

    def test_does_not_precede_answers_of_commands_or_binary_messages(self, start_server):
        with start_server(reply_prefix="server: ").open("/ws") as peer:
            assert ask(peer, "thanks") == "you're welcome"
            peer.send_frame(BINARY, b"bytes")
            assert peer.read_message() == b"bytes"

    def test_precedes_a_message_of_the_maximum_size(self, start_server):
        """The limit applies to received messages, not to longer answers."""
        text = "x" * 1024**2
        with connect(f"{start_server(reply_prefix='> ').url}/", proxy=None, max_size=None) as peer:
            peer.send(text)
            assert peer.recv(timeout=15) == "> " + text

    def test_precedes_a_compressed_message(self, start_server):
        server = start_server(reply_prefix="> ", compression="on")
        with connect(f"{server.url}/", proxy=None, max_size=None) as peer:
            peer.send("x" * 1024**2)
            assert peer.recv(timeout=15) == "> " + "x" * 1024**2


class WhoAmITests:
    """The answer of `whoami`."""

    def test_has_path_query_and_headers_in_order_of_a_plain_connection(self, server):
        with server.connect() as peer:
            peer.handshake("/me%20too?a=1&a=2&b=&c=%E2%82%AC", "X-One: 1", "X-Two: caf\xe9", "X-One: 3")
            local = peer.socket.getsockname()
            about = json.loads(ask(peer, "whoami"))
        number = about.pop("connection")
        assert about.pop("connection_id").endswith(f"-{number}")
        assert about == {
            "address": f"127.0.0.1:{local[1]}",
            "peer": f"127.0.0.1:{local[1]}",
            "method": "GET",
            "http_version": "1.1",
            "path": "/me too",
            "query": {"a": ["1", "2"], "b": [""], "c": ["€"]},
            "headers": [
                ["host", "127.0.0.1"],
                ["upgrade", "websocket"],
                ["connection", "Upgrade"],
                ["sec-websocket-key", "AAECAwQFBgcICQoLDA0ODw=="],
                ["sec-websocket-version", "13"],
                ["x-one", "1"],
                ["x-two", "café"],
                ["x-one", "3"],
            ],
            "subprotocol": None,
            "subprotocols_offered": [],
            "extensions": [],
            "extensions_offered": [],
            "tls": None,
            "round_trip_ms": None,
        }

    def test_names_the_negotiated_extension(self, start_server):
        server = start_server(compression="on")
        with connect(f"{server.url}/", proxy=None) as peer:
            peer.send("whoami")
            about = json.loads(peer.recv(timeout=15))
        assert [extension["extension"] for extension in about["extensions"]] == ["permessage-deflate"]

    def test_has_version_cipher_and_server_name_over_tls(self, start_server, tls_listen, tls_client):
        server = start_server(listen=tls_listen)
        with server.connect(tls=tls_client) as peer:
            peer.handshake("/")
            tls = json.loads(ask(peer, "whoami"))["tls"]
            assert tls == {
                "version": "TLSv1.3",
                "cipher": peer.socket.cipher()[0],
                "alpn": None,
                "server_name": "localhost",
            }

    def test_each_connection_has_a_greater_number(self, server):
        numbers = []
        for _ in range(3):
            with server.open("/") as peer:
                numbers.append(json.loads(ask(peer, "whoami"))["connection"])
        assert numbers == sorted(set(numbers))


class SubprotocolTests:
    """The option --subprotocol."""

    @pytest.mark.parametrize(
        ("offered", "chosen"),
        [
            (["chat"], "chat"),
            (["superchat", "chat"], "superchat"),
            (["chat", "superchat"], "chat"),
            (["other", "superchat"], "superchat"),
            (["other"], None),
            (["CHAT"], None),
            ([], None),
        ],
    )
    def test_the_first_offered_name_that_the_server_supports_is_selected(self, start_server, offered, chosen):
        server = start_server(subprotocol=("chat", "superchat"))
        peer = connect_autobahn(f"{server.url}/", offered)
        assert peer.protocol.websocket_protocol_in_use == chosen
        peer.send("whoami")
        about = json.loads(peer.receive())
        assert (about["subprotocol"], about["subprotocols_offered"]) == (chosen, offered)
        assert peer.close().clean

    def test_two_header_lines_are_one_list(self, start_server):
        server = start_server(subprotocol=("superchat",))
        with server.connect() as peer:
            answer = peer.handshake("/", "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: superchat")
            assert answer.header("sec-websocket-protocol") == "superchat"

    def test_without_the_option_none_is_selected_and_the_connection_opens(self, server):
        with server.connect() as peer:
            assert peer.handshake("/", "Sec-WebSocket-Protocol: chat").header("sec-websocket-protocol") is None


@implementer(ICommand)
class Fail:
    """A command that fails."""

    name = "fail"
    help = "fails"
    takes_argument = True

    def reply(self, session, argument):
        raise LookupError(argument)


@implementer(ICommand)
class Whisper:
    """A command that takes an argument."""

    name = "whisper"
    help = "says it again, quietly"
    takes_argument = True

    def reply(self, session, argument):
        return argument.lower()


class OwnCommandTests:
    """Commands of an application."""

    def test_the_text_after_the_name_is_the_argument(self, start_server):
        with start_server(commands=[Whisper()]).open("/") as peer:
            assert ask(peer, "Whisper  QUIET Please ") == "quiet please"
            assert ask(peer, "whisper") == ""
            assert "whisper: says it again, quietly" in ask(peer, "help").split("\n")

    def test_server_json_lists_the_command(self, start_server):
        with start_server(commands=[Whisper()]).connect() as peer:
            about = json.loads(peer.request("/server.json").body)
        assert about["commands"][-1] == {"name": "whisper", "help": "says it again, quietly"}

    def test_a_failing_command_closes_its_own_connection_with_1011(self, start_server, log):
        """The failure is logged once."""
        server = start_server(commands=[Fail()])
        with server.open("/") as other, server.open("/") as peer:
            peer.send_frame(TEXT, b"fail badly")
            assert peer.read_close().close_code == 1011
            peer.send_frame(CLOSE, close_payload(1011))
            assert peer.read_to_end() == b""
            assert ask(other, "name") == "my name is wsserver"
        [failure] = log.take_failures(LookupError)
        assert "badly" in failure.getTraceback()

"""The command endpoint in memory: answers, echoes and budgets, on a simulated clock."""

import json
from zoneinfo import ZoneInfo

import pytest
from turns import end_turn
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from wsserver.config.settings import Settings
from wsserver.endpoints.commands import BUILT_IN
from wsserver.testing import Frame, MemoryServer, build_frame
from wsserver.wire.limits import PIECES_PER_TURN


class CommandTests:
    """`/`."""

    def ask(self, text, settings=None, **how):
        server = MemoryServer(settings or Settings(), **how)
        server.clock.advance(1_000_000_000)
        client = server.connect()
        client.open("/")
        client.send_text(text)
        return client.messages()

    @pytest.mark.parametrize("text", ["hello", " HELLO ", "Hello\n", "\thello"])
    def test_ignores_case_and_surrounding_white_space(self, text):
        assert self.ask(text) == ["Hello, 127.0.0.1:50000!"]

    @pytest.mark.parametrize("text", ["hello world", "hellos", "", " ", "time flies", "x" * 5000])
    def test_echoes_text_that_is_not_a_command_unchanged(self, text):
        assert self.ask(text) == [text]

    def test_prepends_the_reply_prefix_to_echoes_but_not_to_answers(self):
        settings = Settings(reply_prefix="Received: ")
        assert self.ask("you there?", settings) == ["Received: you there?"]
        assert self.ask("hi", settings) == ["Hi, 127.0.0.1:50000!"]

    @pytest.mark.parametrize("prefix", ["", "Received: "])
    @pytest.mark.parametrize("peer", [IPv4Address("TCP", "127.0.0.1", 50000), UNIXAddress(None)], ids=["tcp", "unix"])
    @pytest.mark.parametrize("command", BUILT_IN, ids=lambda command: command.name)
    def test_answers_every_spelling_of_a_command_with_something_other_than_its_echo(self, command, peer, prefix):
        """A user who tries a command can see that the server has understood it."""
        server = MemoryServer(Settings(reply_prefix=prefix))
        name = command.name
        for spelled in (name, name.upper(), name.capitalize(), name.swapcase()):
            for text in (spelled, f" {spelled}", f"{spelled} ", f"\t{spelled}\r\n", f"{spelled}\n"):
                client = server.connect(peer)
                client.open("/")
                client.send_text(text)
                [answer] = client.messages()
                assert answer.strip().casefold() not in (name, f"{prefix}{name}".casefold())
                assert not answer.startswith("Received: ")

    @pytest.mark.parametrize(
        ("peer", "greeting"),
        [
            (IPv4Address("TCP", "192.0.2.7", 51234), "Hello, 192.0.2.7:51234!"),
            (IPv6Address("TCP", "::1", 51234), "Hello, [::1]:51234!"),
            (UNIXAddress(None), "Hello, client on a UNIX socket!"),
        ],
        ids=["IPv4", "IPv6", "unix"],
    )
    def test_answers_hello_with_the_address_of_the_client(self, peer, greeting):
        """A client on a UNIX socket has no address, so its greeting names none."""
        client = MemoryServer().connect(peer)
        client.open("/")
        client.send_text("hello")
        assert client.messages() == [greeting]

    def test_echoes_binary_messages_even_if_they_spell_a_command(self):
        """--reply-prefix does not apply to binary messages."""
        client = MemoryServer(Settings(reply_prefix="no: ")).connect()
        client.open("/")
        client.send_frame(2, b"hello")
        assert client.messages() == [b"hello"]

    @pytest.mark.parametrize(
        ("zone", "start", "texts"),
        [
            ("UTC", 0.0, ["00:00:00+00:00", "00:00:01+00:00"]),
            ("UTC", 86399.0, ["23:59:59+00:00", "00:00:00+00:00"]),
            # Daylight saving time ends and begins at 01:00 UTC.
            ("Europe/Berlin", 1792889999.0, ["02:59:59+02:00", "02:00:00+01:00"]),
            ("Europe/Berlin", 1774745999.0, ["01:59:59+01:00", "03:00:00+02:00"]),
        ],
    )
    def test_answers_time_with_the_current_second_on_every_connection(self, zone, start, texts):
        """The answer is cached for a second. All connections get the same answer to every spelling of the command."""
        server = MemoryServer(Settings(timezone=ZoneInfo(zone)))
        server.clock.advance(start)
        clients = [server.connect() for _ in range(2)]
        for client in clients:
            client.open("/")
        for text in texts:
            for _ in range(2):
                for client in clients:
                    for word in ("time", "TIME", " tImE\n"):
                        client.send_text(word)
                    assert client.messages() == [text] * 3
                server.clock.advance(0.5)

    def test_answers_time_correctly_after_the_clock_is_set_back(self):
        server = MemoryServer(Settings(timezone=ZoneInfo("UTC")))
        client = server.connect()
        client.open("/")
        answers = []
        for second in (10.0, 11.0, 10.0, 10.9999997):
            server.clock.rightNow = second
            client.send_text("time")
            answers += client.messages()
        assert answers == [f"00:00:{second}+00:00" for second in (10, 11, 10, 11)]

    def test_answers_date_with_the_next_day_after_midnight_in_the_timezone(self):
        server = MemoryServer(Settings(timezone=ZoneInfo("Asia/Tokyo")))
        server.clock.advance(1_000_047_599)
        client = server.connect()
        client.open("/")
        for date in ("2001-09-09", "2001-09-10"):
            client.send_text("date")
            assert client.messages() == [date]
            server.clock.advance(1)

    def test_answers_date_and_time_in_the_configured_timezone(self):
        settings = Settings(timezone=ZoneInfo("Asia/Tokyo"))
        assert self.ask("date", settings) == ["2001-09-09"]
        assert self.ask("time", settings) == ["10:46:40+09:00"]
        assert len(self.ask("time")[0]) == len("10:46:40+09:00")

    def test_answers_age_with_the_uptime_of_the_server(self):
        assert self.ask("age") == ["11574 days, 1:46:40"]

    def test_answers_bye_closes_with_1000_and_ignores_later_messages(self):
        client = MemoryServer().connect()
        client.open("/")
        client.send(build_frame(1, b"bye") + build_frame(1, b"hello"))
        assert client.frames() == [Frame(1, b"Goodbye!"), Frame(8, b"\x03\xe8bye")]

    def test_answers_whoami_with_the_request_and_what_was_negotiated(self):
        server = MemoryServer(Settings(subprotocol=("chat",), compression="on", catch_all="on"))
        client = server.connect()
        headers = {
            "Sec-WebSocket-Protocol": "x, chat",
            "Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=10",
            "X-Custom": "é",
        }
        client.open("/where?a=1&a=2", headers)
        client.send_text("whoami")
        (frame,) = client.frames()
        import zlib

        answer = json.loads(zlib.decompressobj(-15).decompress(frame.payload + b"\x00\x00\xff\xff"))
        assert answer["address"] == "127.0.0.1:50000"
        assert answer["path"] == "/where"
        assert answer["query"] == {"a": ["1", "2"]}
        assert ["x-custom", "é"] in answer["headers"]
        assert answer["subprotocol"] == "chat"
        assert answer["subprotocols_offered"] == ["x", "chat"]
        assert answer["extensions"][0]["server_max_window_bits"] == 10
        assert answer["tls"] is None

    def test_whoami_shows_no_secret(self):
        """A script on the page could read a cookie that the browser hides from scripts."""
        client = MemoryServer(Settings(subprotocol=("wsserver.v1",), catch_all="on")).connect()
        headers = {
            "Cookie": "session=HUSH; theme=HUSH",
            "Authorization": "Bearer HUSH",
            "X-API-Key": "HUSH",
            "Sec-WebSocket-Protocol": "wsserver.v1, bearer.HUSH",
            "X-Token": "token=HUSH",
        }
        client.open("/where?token=HUSH&access_token=HUSH&a=1", headers)
        client.send_text("whoami")
        (frame,) = client.frames()
        assert b"HUSH" not in frame.payload
        answer = json.loads(frame.payload)
        assert ["cookie", "session=[secret]; theme=[secret]"] in answer["headers"]
        assert ["authorization", "Bearer [secret]"] in answer["headers"]
        assert answer["query"] == {"token": ["[secret]"], "access_token": ["[secret]"], "a": ["1"]}
        assert answer["subprotocols_offered"] == ["wsserver.v1", "bearer.[secret]"]

    def test_answers_help_with_every_command(self):
        (text,) = self.ask("help")
        names = [line.split(":")[0] for line in text.splitlines()]
        assert names == ["hello", "hi", "name", "age", "date", "time", "thanks", "bye", "help", "whoami"]

    def test_calls_a_command_of_the_application_and_closes_with_1011_if_it_raises(self):
        class Divide:
            name = "divide"
            help = "divides 100"
            takes_argument = True

            def reply(self, session, argument):
                return str(100 // int(argument))

        assert self.ask("Divide 8", commands=[Divide()]) == ["12"]
        server = MemoryServer(commands=[Divide()])
        client = server.connect()
        client.open("/")
        client.send_text("divide 0")
        assert client.close_frame() == (1011, "the server failed")


class CommandBudgetTests:
    """Limits for clients that send many commands whose answers are not cached."""

    def open(self, server):
        client = server.connect()
        client.open("/ws")
        return client

    def test_gives_at_most_64_answers_per_turn_to_all_clients_together(self):
        """The remaining commands are answered in later turns."""
        server = MemoryServer()
        clients = [self.open(server) for _ in range(20)]
        server.clock.advance(0)
        for client in clients:
            client.send(build_frame(1, b"whoami") * 100)
        counts = [sum(len(client.messages()) for client in clients)]
        while end_turn(server.clock):
            counts.append(sum(len(client.messages()) for client in clients))
        assert max(counts) <= PIECES_PER_TURN
        assert sum(counts) == 2000

    def test_keeps_the_order_of_messages_behind_a_queued_command(self):
        """Echoes and cached answers are sent immediately only if no command is queued before them."""
        client = self.open(MemoryServer())
        messages = [build_frame(1, b"whoami"), build_frame(1, b"an echo"), build_frame(2, b"bytes")] * 100
        client.send(b"".join(messages))
        client.transport.protocol.clock.advance(0)
        answers = client.messages()
        assert len(answers) == 300
        assert all(json.loads(answer)["path"] == "/ws" for answer in answers[::3])
        assert set(answers[1::3]) == {"an echo"}
        assert set(answers[2::3]) == {b"bytes"}

    def test_pauses_reading_while_commands_are_queued(self):
        """Further messages stay in the kernel until the commands are answered."""
        server = MemoryServer()
        client = self.open(server)
        client.send(build_frame(1, b"whoami") * 1000)
        assert client.transport.paused
        server.clock.advance(0)
        assert not client.transport.paused
        assert len(client.messages()) == 1000

    def test_sends_no_more_answers_while_the_client_does_not_read(self):
        """The server answers the other commands when the client reads again."""
        server = MemoryServer()
        client = self.open(server)
        client.transport.reading = False
        client.send(build_frame(1, b"whoami") * 2000)
        server.clock.advance(0)
        assert len(client.transport.unread) < 128 * 1024
        client.transport.reading = True
        client.transport.read_again()
        server.clock.advance(0)
        assert len(client.messages()) == 2000

    def test_closes_with_1000_at_bye_behind_queued_commands_and_ignores_later_ones(self):
        server = MemoryServer()
        client = self.open(server)
        client.send(build_frame(1, b"whoami") * 200 + build_frame(1, b"bye") + build_frame(1, b"whoami") * 10)
        server.clock.advance(0)
        frames = client.frames()
        assert len(frames) == 202
        assert frames[-2:] == [Frame(1, b"Goodbye!"), Frame(8, b"\x03\xe8bye")]


class CommandRateTests:
    """`--command-rate`."""

    def _connect(self, **options):
        server = MemoryServer(Settings(command_rate=5, **options))
        client = server.connect()
        client.open("/ws")
        return server, client

    def test_delays_commands_over_the_rate_and_answers_all_messages_in_order(self):
        server, client = self._connect()
        for number in range(30):
            client.send_text("hello")
            client.send_text(str(number))
        first = client.messages()
        assert first.count("Hello, 127.0.0.1:50000!") == 10
        for _ in range(500):
            server.clock.advance(0.01)
        answers = first + client.messages()
        assert answers[1::2] == [str(number) for number in range(30)]
        assert len(answers) == 60
        assert server.service.connections.counters.limits["command_rate"] > 0

    def test_closes_with_1008_with_rate_action_close(self):
        _, client = self._connect(rate_action="close")
        for _ in range(11):
            client.send_text("hello")
        frames = client.frames()
        assert (
            frames[-1].payload
            == (1008).to_bytes(2, "big") + b"the client sends too fast (server option --command-rate)"
        )

    def test_does_not_limit_messages_that_are_no_commands(self):
        _, client = self._connect()
        for _ in range(100):
            client.send_text("something else")
        assert len(client.messages()) == 100

    def test_drops_the_delay_of_a_client_that_disconnects(self):
        server, client = self._connect(ping_interval=0)
        for _ in range(30):
            client.send_text("hello")
        client.transport.lose()
        server.clock.advance(0)
        assert "_end_delay" not in [call.func.__name__ for call in server.clock.getDelayedCalls()]

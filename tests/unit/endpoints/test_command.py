"""The endpoints: echo, commands, ticker. All in memory, on a clock of our own."""

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
    def test_case_and_space(self, text):
        """Case and surrounding space do not matter."""
        assert self.ask(text) == ["Hello, 127.0.0.1:50000!"]

    @pytest.mark.parametrize("text", ["hello world", "hellos", "", " ", "time flies", "x" * 5000])
    def test_echo_of_everything_else(self, text):
        """What is no command comes back as it was."""
        assert self.ask(text) == [text]

    def test_prefix(self):
        """A prefix goes before text that is echoed, not before answers."""
        settings = Settings(reply_prefix="Received: ")
        assert self.ask("you there?", settings) == ["Received: you there?"]
        assert self.ask("hi", settings) == ["Hi, 127.0.0.1:50000!"]

    @pytest.mark.parametrize("prefix", ["", "Received: "])
    @pytest.mark.parametrize("peer", [IPv4Address("TCP", "127.0.0.1", 50000), UNIXAddress(None)], ids=["tcp", "unix"])
    @pytest.mark.parametrize("command", BUILT_IN, ids=lambda command: command.name)
    def test_the_answer_to_a_command_differs_from_its_echo_in_every_spelling(self, command, peer, prefix):
        """A person who tries a command can tell that the server has understood it."""
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
    def test_hello_greets_the_client_by_its_address(self, peer, greeting):
        """A client on a UNIX socket has none."""
        client = MemoryServer().connect(peer)
        client.open("/")
        client.send_text("hello")
        assert client.messages() == [greeting]

    def test_binary(self):
        """Binary messages come back untouched, even when they spell a command."""
        client = MemoryServer(Settings(reply_prefix="no: ")).connect()
        client.open("/")
        client.send_frame(2, b"hello")
        assert client.messages() == [b"hello"]

    @pytest.mark.parametrize(
        ("zone", "start", "texts"),
        [
            ("UTC", 0.0, ["00:00:00+00:00", "00:00:01+00:00"]),
            ("UTC", 86399.0, ["23:59:59+00:00", "00:00:00+00:00"]),
            # Summer time ends, and begins, at 01:00 UTC.
            ("Europe/Berlin", 1792889999.0, ["02:59:59+02:00", "02:00:00+01:00"]),
            ("Europe/Berlin", 1774745999.0, ["01:59:59+01:00", "03:00:00+02:00"]),
        ],
    )
    def test_seconds(self, zone, start, texts):
        """The time is made anew for every second, and is the same on all connections and in all spellings in it."""
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

    def test_a_clock_set_back(self):
        """A second that comes again is told again."""
        server = MemoryServer(Settings(timezone=ZoneInfo("UTC")))
        client = server.connect()
        client.open("/")
        told = []
        for second in (10.0, 11.0, 10.0, 10.9999997):
            server.clock.rightNow = second
            client.send_text("time")
            told += client.messages()
        assert told == [f"00:00:{second}+00:00" for second in (10, 11, 10, 11)]

    def test_midnight(self):
        """The date changes at midnight in the server's zone."""
        server = MemoryServer(Settings(timezone=ZoneInfo("Asia/Tokyo")))
        server.clock.advance(1_000_047_599)
        client = server.connect()
        client.open("/")
        for date in ("2001-09-09", "2001-09-10"):
            client.send_text("date")
            assert client.messages() == [date]
            server.clock.advance(1)

    def test_date_and_time_in_a_zone(self):
        """Date and time are those of the zone."""
        settings = Settings(timezone=ZoneInfo("Asia/Tokyo"))
        assert self.ask("date", settings) == ["2001-09-09"]
        assert self.ask("time", settings) == ["10:46:40+09:00"]
        assert len(self.ask("time")[0]) == len("10:46:40+09:00")

    def test_age(self):
        """Age is the server's uptime."""
        assert self.ask("age") == ["11574 days, 1:46:40"]

    def test_bye(self):
        """Bye is answered, then the connection is closed with 1000; what comes after it is not answered."""
        client = MemoryServer().connect()
        client.open("/")
        client.send(build_frame(1, b"bye") + build_frame(1, b"hello"))
        assert client.frames() == [Frame(1, b"Goodbye!"), Frame(8, b"\x03\xe8bye")]

    def test_whoami(self):
        """Whoami tells what the server knows."""
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

    def test_help(self):
        """Help lists every command."""
        (text,) = self.ask("help")
        names = [line.split(":")[0] for line in text.splitlines()]
        assert names == ["hello", "hi", "name", "age", "date", "time", "thanks", "bye", "help", "whoami"]

    def test_own_command(self):
        """A command of an application is asked with its argument, and what it raises is 1011."""

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
    """Commands whose answers are made anew for each, sent by clients that ask for many at once."""

    def open(self, server):
        client = server.connect()
        client.open("/ws")
        return client

    def test_many_clients_share_one_budget(self):
        """Clients that flood together get a bounded number of answers in each turn, and all of them in the end."""
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

    def test_messages_behind_a_waiting_command_keep_their_order(self):
        """Echoes and cheap commands are answered at once, unless a command before them has yet to be answered."""
        client = self.open(MemoryServer())
        messages = [build_frame(1, b"whoami"), build_frame(1, b"an echo"), build_frame(2, b"bytes")] * 100
        client.send(b"".join(messages))
        client.transport.protocol.clock.advance(0)
        answers = client.messages()
        assert len(answers) == 300
        assert all(json.loads(answer)["path"] == "/ws" for answer in answers[::3])
        assert set(answers[1::3]) == {"an echo"}
        assert set(answers[2::3]) == {b"bytes"}

    def test_a_client_whose_commands_wait_is_not_read(self):
        """Further messages stay in the kernel until the commands are answered."""
        server = MemoryServer()
        client = self.open(server)
        client.send(build_frame(1, b"whoami") * 1000)
        assert client.transport.paused
        server.clock.advance(0)
        assert not client.transport.paused
        assert len(client.messages()) == 1000

    def test_a_client_that_does_not_read_gets_no_more_answers(self):
        """Nothing more is made for it until it reads again."""
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

    def test_bye_behind_waiting_commands_ends_the_connection(self):
        """What comes behind it is not answered."""
        server = MemoryServer()
        client = self.open(server)
        client.send(build_frame(1, b"whoami") * 200 + build_frame(1, b"bye") + build_frame(1, b"whoami") * 10)
        server.clock.advance(0)
        frames = client.frames()
        assert len(frames) == 202
        assert frames[-2:] == [Frame(1, b"Goodbye!"), Frame(8, b"\x03\xe8bye")]

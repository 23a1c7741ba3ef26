"""Tests for wsserver/endpoints/commands.py: the words that are answered instead of echoed."""

import json
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface import implementer
from zope.interface.verify import verifyObject

from wsserver.endpoints.commands import BUILT_IN, CACHEABLE, Command, ICommand, collect, common_spellings, parse
from wsserver.errors import CommandError

NAMES = ["hello", "hi", "name", "age", "date", "time", "thanks", "bye", "help", "whoami"]

NOON = datetime(2026, 11, 21, 12, 3, 22, 999_999, tzinfo=UTC)


class FakeSession:
    """A connection that notes how it is closed. Unlike a real one it stays open."""

    def __init__(self, *, uptime=0.0, now=NOON, about=None, commands=None):
        self.uptime = uptime
        self.commands = commands or collect([])
        self.peer = "127.0.0.1:51234"
        self.closed = []
        self._now = now
        self._about = about or {}

    def now(self):
        return self._now

    def describe(self):
        return self._about

    def close(self, code=1000, reason=""):
        self.closed.append((code, reason))


@implementer(ICommand)
class Say:
    """A command of an application: says its argument."""

    takes_argument = True
    help = "says it"

    def __init__(self, name="say"):
        self.name = name

    def __repr__(self):
        return f"<{self.name}>"

    def reply(self, session, argument):
        return argument


def answer(text, session=None):
    """Answer a message that is a built-in command."""
    command, argument = parse(text, collect([]))
    return command.reply(session or FakeSession(), argument)


class AnswerTests:
    """What the built-in commands answer."""

    @pytest.mark.parametrize(
        ("name", "reply"),
        [
            ("hello", "Hello, 127.0.0.1:51234!"),
            ("hi", "Hi, 127.0.0.1:51234!"),
            ("name", "my name is wsserver"),
            ("thanks", "you're welcome"),
        ],
    )
    def test_fixed(self, name, reply):
        """Some always answer the same to the same client."""
        assert answer(name) == reply

    @pytest.mark.parametrize(
        ("uptime", "reply"),
        [
            (0.0, "0:00:00"),
            (0.999, "0:00:00"),
            (59.9, "0:00:59"),
            (3725, "1:02:05"),
            (86399, "23:59:59"),
            (86400, "1 day, 0:00:00"),
            (10 * 86400 + 60, "10 days, 0:01:00"),
        ],
    )
    def test_age(self, uptime, reply):
        """`age` tells whole seconds since the start."""
        assert answer("age", FakeSession(uptime=uptime)) == reply

    @pytest.mark.parametrize(
        ("zone", "date"),
        [
            (UTC, "2026-11-21"),
            (timezone(timedelta(hours=12)), "2026-11-22"),
            (timezone(timedelta(hours=-12, minutes=-30)), "2026-11-20"),
            (ZoneInfo("Pacific/Auckland"), "2026-11-22"),
        ],
    )
    def test_date(self, zone, date):
        """`date` tells the date where the server is."""
        assert answer("date", FakeSession(now=NOON.astimezone(zone))) == date

    @pytest.mark.parametrize(
        ("zone", "time"),
        [
            (UTC, "12:03:22+00:00"),
            (timezone(timedelta(hours=1)), "13:03:22+01:00"),
            (timezone(timedelta(hours=-3, minutes=-30)), "08:33:22-03:30"),
            (ZoneInfo("UTC"), "12:03:22+00:00"),
            (ZoneInfo("Europe/Berlin"), "13:03:22+01:00"),
            (ZoneInfo("Asia/Kathmandu"), "17:48:22+05:45"),
        ],
    )
    def test_time(self, zone, time):
        """`time` tells whole seconds and the distance from UTC, as its help says, whatever kind of zone it is."""
        assert answer("time", FakeSession(now=NOON.astimezone(zone))) == time

    def test_bye(self):
        """`bye` says goodbye and closes the connection."""
        session = FakeSession()
        assert answer("bye", session) == "Goodbye!"
        assert session.closed == [(1000, "bye")]

    @pytest.mark.parametrize("name", [name for name in NAMES if name != "bye"])
    def test_others_leave_it_open(self, name):
        """No other command closes the connection."""
        session = FakeSession()
        answer(name, session)
        assert session.closed == []

    def test_help(self):
        """`help` lists every command with its help, those of the application at the end."""
        lines = answer("help", FakeSession(commands=collect([Say()]))).split("\n")
        assert [line.partition(": ")[0] for line in lines] == [*NAMES, "say"]
        assert lines[0] == "hello: greet the client by its address"
        assert lines[-1] == "say: says it"

    def test_whoami(self):
        """`whoami` answers with one line of JSON, in which text in any language stays readable."""
        about = {"path": "/bücher", "query": {"a": ["1\n2"]}, "tls": False, "subprotocol": None}
        reply = answer("whoami", FakeSession(about=about))
        assert json.loads(reply) == about
        assert "/bücher" in reply
        assert "\n" not in reply


class BuiltInTests:
    """The commands of every server."""

    def test_names(self):
        """There are ten, in the order of `help`."""
        assert [command.name for command in BUILT_IN] == NAMES

    @pytest.mark.parametrize("command", BUILT_IN, ids=NAMES)
    def test_shape(self, command):
        """Each is what an application's own command has to be."""
        assert verifyObject(ICommand, command)
        assert isinstance(command, Command)
        assert command.takes_argument is False
        assert command.help
        assert "\n" not in command.help
        assert isinstance(command.reply(FakeSession(), ""), str)


class ParseTests:
    """Which messages are commands."""

    @pytest.mark.parametrize("text", ["hello", "HELLO", "Hello", " hello", "hello ", "\t hello \r\n", "hello\n"])
    def test_command(self, text):
        """Case and surrounding white space do not matter."""
        command, argument = parse(text, collect([]))
        assert (command.name, argument) == ("hello", "")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "\n",
            "hell",
            "helloo",
            "hello!",
            "hello world",
            "hello hello",
            "hello  x",
            "hello\nhi",
            "hello\thi",
            "say hello",
            "/hello",
            '"hello"',
            "h ello",
            "hello\x00",
            "bye bye",
            "time flies",
            "hello " + "x" * 5000,
            "x" * 1_000_000,
            "hello" * 1000,
        ],
        ids=lambda text: repr(text[:12]),
    )
    def test_no_command(self, text):
        """A message that is more or less than a command is none, so it will be echoed."""
        assert parse(text, collect([])) is None

    @pytest.mark.parametrize(
        ("text", "argument"),
        [
            ("say", ""),
            ("say ", ""),
            ("say hello", "hello"),
            ("SAY Hello World", "Hello World"),
            ("  say   hello  world  ", "hello  world"),
            ("say say", "say"),
            ("say a\nb", "a\nb"),
            ("say " + "x" * 5000, "x" * 5000),
        ],
        ids=lambda text: repr(text[:12]),
    )
    def test_argument(self, text, argument):
        """What takes an argument gets the rest of the message, its case kept."""
        command, found = parse(text, collect([Say()]))
        assert (command.name, found) == ("say", argument)
        assert command.reply(FakeSession(), found) == argument

    def test_takes_argument_missing(self):
        """A command that does not say whether it takes an argument takes none."""

        class Bare:
            name = "bare"
            help = "does little"

            def reply(self, session, argument):
                return argument

        commands = collect([Bare()])
        assert parse("bare", commands)[1] == ""
        assert parse("bare x", commands) is None


class SpellTests:
    """The usual spellings, found without parsing."""

    def test_spellings(self):
        """A command is usually written in lower case, in capitals, or with one capital."""
        commands = collect([])
        assert set(common_spellings({"time": commands["time"]})) == {b"time", b"TIME", b"Time"}

    @pytest.mark.parametrize("name", ["größe", "straße", "ﬁn", "ǆ", "\u0131", "\ud800", "42", "?"])
    def test_odd_names(self, name):
        """Where a spelling does not lead back to the name it is left out; the name itself is always there."""
        commands = {name: Say(name)}
        words = common_spellings(commands)
        assert words[name.encode("utf-8", "surrogatepass")] == (commands[name], "")
        for word, found in words.items():
            assert parse(word.decode("utf-8", "surrogatepass"), commands) == found

    @given(
        st.one_of(
            st.text(),
            st.builds(
                lambda name, case, before, after: before + case(name) + after,
                st.sampled_from([*NAMES, "say", "größe"]),
                st.sampled_from([str.lower, str.upper, str.capitalize, str.swapcase]),
                st.sampled_from(["", " ", "\t", "\n", "\u3000", "\x00"]),
                st.sampled_from(["", " ", " x", "\tx", "\r\n", "\u3000", "x"]),
            ),
        )
    )
    def test_same_as_parse(self, text):
        """What is looked up first is what would have been parsed, for every message."""
        commands = collect([Say(), Say("größe")])
        found = parse(text, commands)
        assert (common_spellings(commands).get(text.encode("utf-8")) or found) == found

    def test_steady(self):
        """What is the same for a second are built-in commands, which nobody can replace."""
        assert {command.name for command in BUILT_IN} >= CACHEABLE


class CollectTests:
    """The table of a server's commands."""

    @pytest.mark.parametrize("lacking", ["help", "reply"])
    def test_half_a_command(self, lacking):
        """A plugin without a help line or an answer is refused with a sentence."""
        parts = {"name": "half", "help": "halves", "reply": lambda session, argument: argument}
        del parts[lacking]
        with pytest.raises(CommandError, match="has no help line or no reply method"):
            collect([type("Half", (), parts)()])

    def test_order(self):
        """The built-in commands come first, then those of the application in their order."""
        assert list(collect([Say("zzz"), Say("aaa")])) == [*NAMES, "zzz", "aaa"]

    @pytest.mark.parametrize("name", ["say", "say-it", "s", "größe", "42", "/say", "?"])
    def test_name(self, name):
        """Every lower-case word will do as a name."""
        assert name in collect([Say(name)])

    @pytest.mark.parametrize(
        "name", ["", " ", "Say", "SAY", "say it", " say", "say ", "say\n", "s\tay", None, 42, b"say"]
    )
    def test_bad_name(self, name):
        """Anything else will not: no message could call it."""
        with pytest.raises(CommandError) as caught:
            collect([Say(name)])
        assert str(caught.value) == f"command <{name}>: invalid name {name!r}: expected one lower-case word"

    def test_no_name(self):
        """A command has to have a name."""
        with pytest.raises(CommandError, match="invalid name None: expected one lower-case word"):
            collect([object()])

    def test_built_in_name(self):
        """A built-in command cannot be replaced."""
        with pytest.raises(CommandError, match="command <hello>: the name 'hello' is already used by "):
            collect([Say("hello")])

    def test_name_twice(self):
        """Two commands cannot have one name."""
        with pytest.raises(CommandError) as caught:
            collect([Say(), Say()])
        assert str(caught.value) == "command <say>: the name 'say' is already used by <say>"

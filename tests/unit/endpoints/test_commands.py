"""Tests for wsserver/endpoints/commands.py: the commands that are answered instead of echoed."""

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
    """A session that records how it is closed. Unlike a real one, it stays open."""

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
    """A command of an application that returns its argument."""

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
    """The answers of the built-in commands."""

    @pytest.mark.parametrize(
        ("name", "reply"),
        [
            ("hello", "Hello, 127.0.0.1:51234!"),
            ("hi", "Hi, 127.0.0.1:51234!"),
            ("name", "my name is wsserver"),
            ("thanks", "you're welcome"),
        ],
    )
    def test_answers_hello_hi_name_and_thanks_with_fixed_texts(self, name, reply):
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
    def test_answers_age_with_the_uptime_in_whole_seconds(self, uptime, reply):
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
    def test_answers_date_in_the_timezone_of_the_server(self, zone, date):
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
    def test_answers_time_in_whole_seconds_with_the_utc_offset(self, zone, time):
        """The format is the same for every type of time zone."""
        assert answer("time", FakeSession(now=NOON.astimezone(zone))) == time

    def test_answers_bye_and_closes_with_1000(self):
        session = FakeSession()
        assert answer("bye", session) == "Goodbye!"
        assert session.closed == [(1000, "bye")]

    @pytest.mark.parametrize("name", [name for name in NAMES if name != "bye"])
    def test_leaves_the_connection_open_after_every_other_command(self, name):
        session = FakeSession()
        answer(name, session)
        assert session.closed == []

    def test_answers_help_with_one_line_per_command_built_in_ones_first(self):
        lines = answer("help", FakeSession(commands=collect([Say()]))).split("\n")
        assert [line.partition(": ")[0] for line in lines] == [*NAMES, "say"]
        assert lines[0] == "hello: greet the client by its address"
        assert lines[-1] == "say: says it"

    def test_answers_whoami_with_one_line_of_unescaped_json(self):
        about = {"path": "/bücher", "query": {"a": ["1\n2"]}, "tls": False, "subprotocol": None}
        reply = answer("whoami", FakeSession(about=about))
        assert json.loads(reply) == about
        assert "/bücher" in reply
        assert "\n" not in reply


class BuiltInTests:
    """The commands of every server."""

    def test_are_ten_in_the_order_of_help(self):
        assert [command.name for command in BUILT_IN] == NAMES

    @pytest.mark.parametrize("command", BUILT_IN, ids=NAMES)
    def test_implement_the_interface_of_commands_and_take_no_argument(self, command):
        assert verifyObject(ICommand, command)
        assert isinstance(command, Command)
        assert command.takes_argument is False
        assert command.help
        assert "\n" not in command.help
        assert isinstance(command.reply(FakeSession(), ""), str)


class ParseTests:
    """Which messages are commands."""

    @pytest.mark.parametrize("text", ["hello", "HELLO", "Hello", " hello", "hello ", "\t hello \r\n", "hello\n"])
    def test_ignores_case_and_surrounding_white_space(self, text):
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
    def test_returns_none_for_text_that_is_not_exactly_a_command(self, text):
        """The endpoint echoes such a message."""
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
    def test_passes_the_rest_of_the_message_as_the_argument(self, text, argument):
        """The case of the argument is kept."""
        command, found = parse(text, collect([Say()]))
        assert (command.name, found) == ("say", argument)
        assert command.reply(FakeSession(), found) == argument

    def test_accepts_no_argument_if_the_command_does_not_declare_one(self):
        class Bare:
            name = "bare"
            help = "does little"

            def reply(self, session, argument):
                return argument

        commands = collect([Bare()])
        assert parse("bare", commands)[1] == ""
        assert parse("bare x", commands) is None


class SpellingTests:
    """The common spellings, which are looked up before a message is parsed."""

    def test_are_lower_case_upper_case_and_capitalized(self):
        commands = collect([])
        assert set(common_spellings({"time": commands["time"]})) == {b"time", b"TIME", b"Time"}

    @pytest.mark.parametrize("name", ["größe", "straße", "ﬁn", "ǆ", "\u0131", "\ud800", "42", "?"])
    def test_omit_spellings_that_do_not_parse_to_the_name(self, name):
        """The name itself is always among them."""
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
    def test_give_the_same_result_as_parsing_for_every_message(self, text):
        commands = collect([Say(), Say("größe")])
        found = parse(text, commands)
        assert (common_spellings(commands).get(text.encode("utf-8")) or found) == found

    def test_cacheable_commands_are_all_built_in(self):
        """Cached answers are valid for one second, and an application cannot replace these commands."""
        assert {command.name for command in BUILT_IN} >= CACHEABLE


class CollectTests:
    """The table of a server's commands."""

    @pytest.mark.parametrize("lacking", ["help", "reply"])
    def test_refuses_a_command_without_help_or_reply(self, lacking):
        parts = {"name": "half", "help": "halves", "reply": lambda session, argument: argument}
        del parts[lacking]
        with pytest.raises(CommandError, match="has no help line or no reply method"):
            collect([type("Half", (), parts)()])

    def test_puts_built_in_commands_before_those_of_the_application(self):
        assert list(collect([Say("zzz"), Say("aaa")])) == [*NAMES, "zzz", "aaa"]

    @pytest.mark.parametrize("name", ["say", "say-it", "s", "größe", "42", "/say", "?"])
    def test_accepts_a_name_of_one_lower_case_word(self, name):
        assert name in collect([Say(name)])

    @pytest.mark.parametrize(
        "name", ["", " ", "Say", "SAY", "say it", " say", "say ", "say\n", "s\tay", None, 42, b"say"]
    )
    def test_refuses_a_name_that_is_not_one_lower_case_word(self, name):
        """No message could call such a command."""
        with pytest.raises(CommandError) as caught:
            collect([Say(name)])
        assert str(caught.value) == f"command <{name}>: invalid name {name!r}: expected one lower-case word"

    def test_refuses_a_command_without_a_name(self):
        with pytest.raises(CommandError, match="invalid name None: expected one lower-case word"):
            collect([object()])

    def test_refuses_the_name_of_a_built_in_command(self):
        with pytest.raises(CommandError, match="command <hello>: the name 'hello' is already used by "):
            collect([Say("hello")])

    def test_refuses_two_commands_with_the_same_name(self):
        with pytest.raises(CommandError) as caught:
            collect([Say(), Say()])
        assert str(caught.value) == "command <say>: the name 'say' is already used by <say>"

"""Tests for wsserver/logging.py: one line an event, nothing from outside raw in it."""

import io
import json
import re
import signal
import sys
import unicodedata

import pytest
from twisted.logger import Logger, LogLevel, globalLogPublisher
from twisted.python import log as legacy
from twisted.python.failure import Failure

from wsserver.logging import FORMATS, file_observer, format_json, format_text, open_log
from wsserver.text import escape

TIME = 1795262602.3456
"""2026-11-21T12:03:22.345Z, a little later."""


def event(message="hello", /, **fields):
    """Make an event as Twisted's logger does."""
    about = {"log_format": "{text}", "log_level": LogLevel.info, "log_namespace": "wsserver", "log_time": TIME}
    return {**about, "text": message, **fields}


def failure(error):
    """Raise and catch, so that there is a traceback."""
    try:
        raise error
    except Exception:
        return Failure()


def strictly(constant):
    """Refuse what only Python's own JSON knows."""
    raise AssertionError(f"{constant} is no JSON")


def parse_json(line):
    """Read a line of JSON as another program would."""
    assert line.endswith("\n")
    assert len(line.splitlines()) == 1
    return json.loads(line, parse_constant=strictly)


PAYLOADS = {
    "CR LF": "a\r\n2026-11-21T12:00:00+0000 [wsserver#info] forged",
    "LF": "a\nforged",
    "CR": "a\rforged",
    "many LF": "\n" * 1000,
    "LF at the end": "forged\n",
    "ESC colour": "\x1b[31mred\x1b[0m",
    "ESC clear": "\x1b[2J\x1b[H",
    "ESC title": "\x1b]0;title\x07",
    "ESC paste": "\x1b[200~rm -rf\x1b[201~",
    "NUL": "a\x00b",
    "BEL": "\x07",
    "BS": "secret\b\b\b\b\b\bpublic",
    "TAB": "a\tb",
    "VT FF": "a\x0bb\x0cc",
    "separators": "a\x1cb\x1dc\x1ed\x1fe",
    "DEL": "a\x7fb",
    "NEL": "a\x85forged",
    "CSI of C1": "\x9b31mred",
    "OSC of C1": "\x9d0;title\x9c",
    "all of C1": "".join(map(chr, range(0x80, 0xA0))),
    "all of C0": "".join(map(chr, range(0x20))),
    "line separator": "a\u2028forged",
    "paragraph separator": "a\u2029forged",
    "override": "\u202egnp.exe",
    "embedding": "\u202aa\u202bb\u202cc\u202dd",
    "isolates": "\u2066a\u2067b\u2068c\u2069d",
    "marks": "\u200ea\u200fb\u061cc",
    "lone surrogate": "a\ud800b\udfff",
    "braces": "{0} {text.__class__} {peer!r:>{width}}",
    "percent": "%s %(path)s %n",
    "quotes": '"}, {"level": "critical", \'x',
    "backslashes": "\\n \\x1b \\",
    "other scripts": "grüße 你好 🙂",
}
"""What a peer could send: line ends, escape sequences, and what turns a line around."""

# Unicode's property Bidi_Control.
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def is_raw(character):
    """Tell whether a character must not come to a terminal as it is."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in BIDI


class EscapeTests:
    """Control characters, spelled out."""

    @pytest.mark.parametrize(
        ("text", "escaped"),
        [
            ("plain grüße 🙂", "plain grüße 🙂"),
            ("a\r\nb", r"a\r\nb"),
            ("\x1b[31m", r"\x1b[31m"),
            ("\x00\x7f\x85\x9b", r"\x00\x7f\x85\x9b"),
            ("\t", r"\t"),
            ("\u2028\u2029", r"\u2028\u2029"),
            ("\u202e\u2066", r"\u202e\u2066"),
            ("\ud800", r"\ud800"),
            ("", ""),
        ],
    )
    def test_escape(self, text, escaped):
        """Each is written as in a Python text; everything else stays."""
        assert escape(text) == escaped

    def test_every_character(self):
        """No control character is left out, and no letter is touched."""
        for number in range(0x11000):
            character = chr(number)
            if is_raw(character):
                assert re.fullmatch(r"\\(x..|u....|[nrt])", escape(character)), hex(number)
            elif character not in BIDI:
                assert escape(character) == character


class TextTests:
    """The log for people."""

    def test_line(self):
        """A line has a time with its distance from UTC, the part of the server, the level, and the message."""
        line = format_text(event("hello", log_namespace="wsserver.frontend", log_level=LogLevel.warn))
        assert re.fullmatch(r"2026-11-2[12]T..:..:22[+-]\d{4} \[wsserver\.frontend#warn\] hello\n", line)

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
    def test_payload(self, payload):
        """Whatever a peer sends, the event stays one line without control characters."""
        line = format_text(event(payload))
        assert line.endswith("\n")
        assert [character for character in line[:-1] if is_raw(character)] == []
        assert escape(payload) in line

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
    def test_payload_as_format(self, payload):
        """So it does where the message is used as a format by mistake."""
        line = format_text(event(log_format=payload))
        if line is not None:
            assert [character for character in line[:-1] if is_raw(character)] == []

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
    def test_payload_in_the_namespace(self, payload):
        """So it does where it stands before the message."""
        for field in ("log_namespace", "log_system"):
            line = format_text(event(**{field: payload}))
            assert [character for character in line[:-1] if is_raw(character)] == []

    def test_traceback(self):
        """A traceback stands on lines of its own, each set in, so that none can be taken for an event."""
        lines = format_text(event("it failed", log_failure=failure(ValueError("why")))).splitlines()
        assert lines[0].endswith("] it failed")
        assert lines[1] == "  Traceback (most recent call last):"
        assert lines[-1] == "  builtins.ValueError: why"
        assert all(line.startswith("  ") for line in lines[1:])

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
    def test_payload_in_a_traceback(self, payload):
        """Nothing in an exception's text can look like another event or reach the terminal."""
        text = format_text(event("it failed", log_failure=failure(ValueError(payload))))
        assert [character for character in text if is_raw(character) and character != "\n"] == []
        assert all(line.startswith("  ") for line in text.splitlines()[1:])

    def test_traceback_without_a_message(self):
        """A failure that is logged without a word is not lost."""
        text = format_text(event(log_format="", log_failure=failure(ValueError("why"))))
        assert "ValueError: why" in text

    def test_no_message(self):
        """An event without a message is not written."""
        assert format_text({"log_time": TIME}) is None

    def test_unformattable(self):
        """An event that cannot be put into words is written all the same."""
        assert "Unable to format event" in format_text(event(log_format="{missing}"))


class JSONTests:
    """The log for programs."""

    def test_line(self):
        """A line has time, level, namespace, message and the event's own plain fields."""
        line = format_json(
            event(
                "hello",
                log_namespace="wsserver.frontend",
                log_level=LogLevel.warn,
                log_source=object(),
                log_logger=object(),
                status=400,
                seconds=1.5,
                path=None,
                clean=True,
                payload=b"bytes",
                thing=object(),
            )
        )
        assert parse_json(line) == {
            "time": "2026-11-21T12:03:22.345+00:00",
            "level": "warn",
            "namespace": "wsserver.frontend",
            "message": "hello",
            "text": "hello",
            "status": 400,
            "seconds": 1.5,
            "path": None,
            "clean": True,
        }

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
    def test_payload(self, payload):
        """Whatever a peer sends, the event stays one line of JSON, and the payload can be read back from it."""
        line = format_json(event(payload))
        assert line.isascii()
        assert [character for character in line[:-1] if is_raw(character)] == []
        assert parse_json(line)["message"] == payload

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
    def test_payload_elsewhere(self, payload):
        """So it does in every other place of the event."""
        line = format_json(
            event(
                log_format=payload,
                log_namespace=payload,
                log_failure=failure(ValueError(payload)),
                **{payload: payload},
            )
        )
        read = parse_json(line)
        assert (read["namespace"], read[payload]) == (payload, payload)

    def test_own_names(self):
        """An event's own fields cannot take the place of the line's."""
        line = parse_json(format_json(event("real", time="x", level="x", namespace="x", message="x")))
        assert line == {
            "time": "2026-11-21T12:03:22.345+00:00",
            "level": "info",
            "namespace": "wsserver",
            "message": "real",
            "text": "real",
        }

    def test_traceback(self):
        """A traceback is a field."""
        line = parse_json(format_json(event(log_failure=failure(ValueError("why")))))
        assert line["traceback"].startswith("Traceback (most recent call last):\n")
        assert line["traceback"].endswith("builtins.ValueError: why\n")

    def test_bare_event(self):
        """An event without anything but a time is written too."""
        line = parse_json(format_json({"log_time": 0.0}))
        assert line == {"time": "1970-01-01T00:00:00.000+00:00", "level": "info", "namespace": "", "message": ""}

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
    def test_no_number(self, number):
        """What JSON has no word for does not make the line unreadable."""
        assert parse_json(format_json(event("hello", number=number)))["message"] == "hello"


@pytest.fixture
def published():
    """Give the list that all of Twisted's log events go to."""
    events = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


class Unprintable(Exception):
    """An error that cannot even be shown."""

    def __str__(self):
        raise ValueError("no words")


class BrokenErrorTests:
    """An error whose own text fails."""

    @pytest.mark.parametrize("name", ["text", "json"])
    def test_written(self, name):
        """The event is written all the same, and names the error's class."""
        line = FORMATS[name](event("it failed", log_failure=failure(Unprintable())))
        assert "it failed" in line
        assert "Unprintable" in line


class TwistedTests:
    """What other parts of Twisted log."""

    def cache_event(self, published):
        """Log what Twisted logs when it cannot write its plugin cache."""
        legacy.msg(format="Unable to write to plugin cache %(path)s: error number %(errno)d", path="/x", errno=30)
        return published[-1]

    @pytest.mark.parametrize("name", ["text", "json"])
    def test_noise(self, published, name):
        """That the plugin cache cannot be written is not told: it harms nothing."""
        assert FORMATS[name](self.cache_event(published)) is None

    @pytest.mark.parametrize("name", ["text", "json"])
    def test_like_noise(self, published, name):
        """What only speaks of it is."""
        legacy.msg("Unable to write to plugin cache")
        Logger().info("Unable to write to plugin cache")
        assert all(FORMATS[name](event) for event in published)

    def test_old_messages(self, published):
        """Messages of the old log are one line as well."""
        legacy.msg("two\nlines")
        assert format_text(published[-1]).endswith("[-] two\\nlines\n")
        assert parse_json(format_json(published[-1]))["message"] == "two\nlines"

    def test_old_errors(self, published):
        """An error of the old log is written with its traceback."""
        legacy.err(failure(ValueError("why")), "it failed")
        assert "ValueError: why" in format_text(published[-1])
        assert "ValueError: why" in format_json(published[-1])

    def test_new_errors(self, published):
        """So is one of the new log."""
        Logger("wsserver").failure("it failed", failure(ValueError("why")))
        assert format_text(published[-1]).endswith("  builtins.ValueError: why\n")
        assert parse_json(format_json(published[-1]))["level"] == "critical"


class FakeReactor:
    """Calls at once what a real reactor would call in its own thread, a moment later."""

    def callFromThread(self, function):
        function()


@pytest.fixture
def usr1():
    """Give back SIGUSR1 as it was."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("usr1")
class OpenLogTests:
    """Where the log goes."""

    @pytest.mark.parametrize(
        "options",
        [
            {"logfile": "-", "nodaemon": True},
            {"logfile": "-", "nodaemon": False},
            {"logfile": None, "nodaemon": True},
            {"logfile": "", "nodaemon": True},
            {"logfile": "-"},
        ],
    )
    def test_standard_output(self, options):
        """In the foreground, and for the file `-`, it is standard output."""
        assert open_log(options) is sys.stdout
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL

    @pytest.mark.parametrize("nodaemon", [True, False])
    def test_file(self, tmp_path, nodaemon):
        """A file that is named is written to, in the foreground too."""
        log = open_log({"logfile": str(tmp_path / "ws.log"), "nodaemon": nodaemon})
        log.write("hello\n")
        log.close()
        assert (tmp_path / "ws.log").read_text() == "hello\n"

    @pytest.mark.parametrize("name", [None, ""])
    def test_daemon(self, tmp_path, monkeypatch, name):
        """In the background the file is twistd.log in the working directory, as with every twistd."""
        monkeypatch.chdir(tmp_path)
        open_log({"logfile": name, "nodaemon": False}).close()
        assert [path.name for path in tmp_path.iterdir()] == ["twistd.log"]

    def test_rotate(self, tmp_path, monkeypatch):
        """On SIGUSR1 the file is put aside and a new one begun, as with every twistd."""
        monkeypatch.setattr("twisted.internet.reactor", FakeReactor(), raising=False)
        log = open_log({"logfile": str(tmp_path / "ws.log")})
        log.write("old\n")
        signal.raise_signal(signal.SIGUSR1)
        log.write("new\n")
        log.close()
        assert (tmp_path / "ws.log.1").read_text() == "old\n"
        assert (tmp_path / "ws.log").read_text() == "new\n"

    def test_taken_signal(self, tmp_path):
        """Where someone else listens to SIGUSR1 the signal stays theirs."""
        calls = []

        def theirs(number, frame):
            calls.append(number)

        signal.signal(signal.SIGUSR1, theirs)
        open_log({"logfile": str(tmp_path / "ws.log")}).close()
        assert signal.getsignal(signal.SIGUSR1) is theirs
        signal.raise_signal(signal.SIGUSR1)
        assert calls == [signal.SIGUSR1]


@pytest.mark.usefixtures("usr1")
class ObserverTests:
    """The log as a whole."""

    @pytest.mark.parametrize("name", ["text", "json"])
    def test_file(self, tmp_path, name):
        """Each event is a line of the file, in UTF-8; what is not to be written leaves no trace."""
        observer = file_observer({"logfile": str(tmp_path / "ws.log")}, name)
        for payload in PAYLOADS.values():
            observer(event(payload))
        observer(event(format="Unable to write to plugin cache /x", log_format="x"))
        lines = (tmp_path / "ws.log").read_bytes().decode("utf-8").splitlines()
        assert len(lines) == len(PAYLOADS)
        if name == "json":
            assert [json.loads(line)["message"] for line in lines] == list(PAYLOADS.values())
        else:
            assert all(re.match(r"2026-11-2[12]T\S+ \[wsserver#info\] ", line) for line in lines)

    def test_standard_output(self, monkeypatch):
        """The same to standard output."""
        output = io.StringIO()
        monkeypatch.setattr(sys, "stdout", output)
        file_observer({"nodaemon": True}, "text")(event("hello\n"))
        assert output.getvalue().endswith(" [wsserver#info] hello\\n\n")

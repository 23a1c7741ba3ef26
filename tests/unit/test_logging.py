"""Tests for wsserver/logging.py: one line per event, with peers' data escaped."""

import io
import json
import os
import re
import signal
import sys
import unicodedata

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, globalLogPublisher
from twisted.python import log as legacy
from twisted.python.failure import Failure

from wsserver.logging import (
    FORMATS,
    LINE,
    MAX_LINES,
    RAW,
    LogSettings,
    TurnObserver,
    file_observer,
    format_json,
    format_text,
    make_observer,
    numbered,
    open_log,
)
from wsserver.text import escape

TIME = 1795262602.3456
"""2026-11-21T12:03:22.3456Z."""


def event(message="hello", /, **fields):
    """Make an event like those of Twisted's logger."""
    about = {"log_format": "{text}", "log_level": LogLevel.info, "log_namespace": "wsserver", "log_time": TIME}
    return {**about, "text": message, **fields}


def failure(error):
    """Raise and catch an error, so that its failure has a traceback."""
    try:
        raise error
    except Exception:
        return Failure()


def strictly(constant):
    """Refuse the constants that only Python's json module accepts."""
    raise AssertionError(f"{constant} is not JSON")


def parse_json(line):
    """Read a line as strict JSON."""
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
"""What a peer could send: line ends, escape sequences, and characters that change the writing direction."""

# Unicode's property Bidi_Control.
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def is_raw(character):
    """Return whether a character must not be written to a terminal unescaped."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in BIDI


class EscapeTests:
    """Escaping of control characters."""

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
    def test_control_characters_are_written_as_python_escapes(self, text, escaped):
        """Other characters are unchanged."""
        assert escape(text) == escaped

    def test_escapes_every_control_character_and_no_other(self):
        """Checked for every code point up to U+10FFF."""
        for number in range(0x11000):
            character = chr(number)
            if is_raw(character):
                assert re.fullmatch(r"\\(x..|u....|[nrt])", escape(character)), hex(number)
            elif character not in BIDI:
                assert escape(character) == character


class TextTests:
    """The log in text format."""

    def test_a_line_has_time_namespace_level_and_message(self):
        """The time has its offset from UTC."""
        line = format_text(event("hello", log_namespace="wsserver.frontend", log_level=LogLevel.warn))
        assert re.fullmatch(r"2026-11-2[12]T..:..:22[+-]\d{4} \[wsserver\.frontend#warn\] hello\n", line)

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
    def test_a_payload_in_a_field_stays_on_one_escaped_line(self, payload):
        line = format_text(event(payload))
        assert line.endswith("\n")
        assert [character for character in line[:-1] if is_raw(character)] == []
        assert escape(payload) in line

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
    def test_a_payload_used_as_the_format_has_no_raw_characters(self, payload):
        """Guards against code that logs a peer's text as the format by mistake."""
        line = format_text(event(log_format=payload))
        if line is not None:
            assert [character for character in line[:-1] if is_raw(character)] == []

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
    def test_a_payload_in_the_namespace_has_no_raw_characters(self, payload):
        for field in ("log_namespace", "log_system"):
            line = format_text(event(**{field: payload}))
            assert [character for character in line[:-1] if is_raw(character)] == []

    def test_a_traceback_follows_on_indented_lines(self):
        """The indent distinguishes its lines from events."""
        lines = format_text(event("it failed", log_failure=failure(ValueError("why")))).splitlines()
        assert lines[0].endswith("] it failed")
        assert lines[1] == "  Traceback (most recent call last):"
        assert lines[-1] == "  builtins.ValueError: why"
        assert all(line.startswith("  ") for line in lines[1:])

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
    def test_a_payload_in_a_traceback_is_escaped_and_indented(self, payload):
        """An exception's text can neither imitate an event nor control the terminal."""
        text = format_text(event("it failed", log_failure=failure(ValueError(payload))))
        assert [character for character in text if is_raw(character) and character != "\n"] == []
        assert all(line.startswith("  ") for line in text.splitlines()[1:])

    def test_a_failure_with_an_empty_message_is_still_written(self):
        text = format_text(event(log_format="", log_failure=failure(ValueError("why"))))
        assert "ValueError: why" in text

    def test_an_event_without_a_message_is_not_written(self):
        assert format_text({"log_time": TIME}) is None

    def test_an_event_that_cannot_be_formatted_is_reported(self):
        assert "Unable to format event" in format_text(event(log_format="{missing}"))


class JSONTests:
    """The log in JSON format."""

    def test_a_line_has_time_level_namespace_message_and_plain_fields(self):
        """Fields whose values are not JSON, such as bytes and objects, are left out."""
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
    def test_a_payload_is_one_ascii_line_that_parses_back(self, payload):
        line = format_json(event(payload))
        assert line.isascii()
        assert [character for character in line[:-1] if is_raw(character)] == []
        assert parse_json(line)["message"] == payload

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
    def test_a_payload_in_any_other_field_parses_back(self, payload):
        """This includes a payload that is the name of a field."""
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

    def test_an_events_fields_do_not_replace_the_lines_own(self):
        line = parse_json(format_json(event("real", time="x", level="x", namespace="x", message="x")))
        assert line == {
            "time": "2026-11-21T12:03:22.345+00:00",
            "level": "info",
            "namespace": "wsserver",
            "message": "real",
            "text": "real",
        }

    def test_a_traceback_is_written_as_a_field(self):
        line = parse_json(format_json(event(log_failure=failure(ValueError("why")))))
        assert line["traceback"].startswith("Traceback (most recent call last):\n")
        assert line["traceback"].endswith("builtins.ValueError: why\n")

    def test_an_event_with_only_a_time_is_written(self):
        line = parse_json(format_json({"log_time": 0.0}))
        assert line == {"time": "1970-01-01T00:00:00.000+00:00", "level": "info", "namespace": "", "message": ""}

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
    def test_nan_and_infinity_leave_the_line_valid_json(self, number):
        assert parse_json(format_json(event("hello", number=number)))["message"] == "hello"


@pytest.fixture
def published():
    """Return the list that all of Twisted's log events are appended to."""
    events = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


class Unprintable(Exception):
    """An error whose `str()` raises."""

    def __str__(self):
        raise ValueError("no words")


class BrokenErrorTests:
    """An error whose `str()` raises."""

    @pytest.mark.parametrize("name", ["text", "json"])
    def test_the_event_is_written_with_the_class_of_the_error(self, name):
        line = FORMATS[name](event("it failed", log_failure=failure(Unprintable())))
        assert "it failed" in line
        assert "Unprintable" in line


class TwistedTests:
    """Events that other parts of Twisted log."""

    def cache_event(self, published):
        """Log what Twisted logs when it cannot write its plugin cache."""
        legacy.msg(format="Unable to write to plugin cache %(path)s: error number %(errno)d", path="/x", errno=30)
        return published[-1]

    @pytest.mark.parametrize("name", ["text", "json"])
    def test_omits_that_the_plugin_cache_is_not_writable(self, published, name):
        """The server does not need the cache."""
        assert FORMATS[name](self.cache_event(published)) is None

    @pytest.mark.parametrize("name", ["text", "json"])
    def test_writes_messages_that_only_resemble_the_plugin_cache_event(self, published, name):
        legacy.msg("Unable to write to plugin cache")
        Logger().info("Unable to write to plugin cache")
        assert all(FORMATS[name](event) for event in published)

    def test_a_legacy_message_is_one_escaped_line(self, published):
        legacy.msg("two\nlines")
        assert format_text(published[-1]).endswith("[-] two\\nlines\n")
        assert parse_json(format_json(published[-1]))["message"] == "two\nlines"

    def test_a_legacy_error_is_written_with_its_traceback(self, published):
        legacy.err(failure(ValueError("why")), "it failed")
        assert "ValueError: why" in format_text(published[-1])
        assert "ValueError: why" in format_json(published[-1])

    def test_a_logger_failure_is_critical_and_has_its_traceback(self, published):
        Logger("wsserver").failure("it failed", failure(ValueError("why")))
        assert format_text(published[-1]).endswith("  builtins.ValueError: why\n")
        assert parse_json(format_json(published[-1]))["level"] == "critical"


class FakeReactor:
    """Calls functions immediately, where a real reactor would call them later in its own thread."""

    def callFromThread(self, function):
        function()


class RunningReactor(Clock):
    """A reactor that runs until `shut_down` is called."""

    running = True

    def addSystemEventTrigger(self, phase, event, function):
        assert (phase, event) == ("after", "shutdown")
        self.trigger = function

    def shut_down(self):
        """Stop, then call the function that was registered for the end of the shutdown."""
        self.running = False
        self.trigger()


@pytest.fixture
def usr1():
    """Restore the handler of SIGUSR1 afterwards."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("usr1")
class OpenLogTests:
    """Which file the log is written to."""

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
    def test_uses_standard_output_in_the_foreground_and_for_a_dash(self, options):
        assert open_log(options) is sys.stdout
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL

    @pytest.mark.parametrize("nodaemon", [True, False])
    def test_writes_to_a_named_file_in_both_modes(self, tmp_path, nodaemon):
        log = open_log({"logfile": str(tmp_path / "ws.log"), "nodaemon": nodaemon})
        log.write("hello\n")
        log.close()
        assert (tmp_path / "ws.log").read_text() == "hello\n"

    @pytest.mark.parametrize("name", [None, ""])
    def test_a_daemon_without_a_file_writes_to_twistd_log(self, tmp_path, monkeypatch, name):
        """twistd.log is in the working directory, as for every twistd program."""
        monkeypatch.chdir(tmp_path)
        open_log({"logfile": name, "nodaemon": False}).close()
        assert [path.name for path in tmp_path.iterdir()] == ["twistd.log"]

    def test_sigusr1_renames_the_file_and_opens_a_new_one(self, tmp_path, monkeypatch):
        """Every twistd program rotates its log at this signal."""
        monkeypatch.setattr("twisted.internet.reactor", FakeReactor(), raising=False)
        log = open_log({"logfile": str(tmp_path / "ws.log")})
        log.write("old\n")
        signal.raise_signal(signal.SIGUSR1)
        log.write("new\n")
        log.close()
        assert (tmp_path / "ws.log.1").read_text() == "old\n"
        assert (tmp_path / "ws.log").read_text() == "new\n"

    def test_leaves_an_existing_sigusr1_handler_in_place(self, tmp_path):
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
    """The observer that formats events and writes them."""

    @pytest.mark.parametrize("name", ["text", "json"])
    def test_writes_each_event_as_one_utf8_line_of_the_file(self, tmp_path, name):
        """An event that the formatter omits adds nothing to the file, not even an empty line."""
        observer = file_observer({"logfile": str(tmp_path / "ws.log")}, LogSettings(name, max_rate=0))
        for payload in PAYLOADS.values():
            observer(event(payload))
        observer(event(format="Unable to write to plugin cache /x", log_format="x"))
        lines = (tmp_path / "ws.log").read_bytes().decode("utf-8").splitlines()
        assert len(lines) == len(PAYLOADS)
        if name == "json":
            assert [json.loads(line)["message"] for line in lines] == list(PAYLOADS.values())
        else:
            assert all(re.match(r"2026-11-2[12]T\S+ \[wsserver#info\] ", line) for line in lines)

    def test_writes_the_connection_events_of_a_turn_together_and_in_order(self, tmp_path):
        file, reactor = (tmp_path / "log").open("w", encoding="utf-8"), RunningReactor()
        observer = TurnObserver(file, lambda event: event["line"] + "\n", reactor)

        def log(*lines, log_format=LINE):
            for line in lines:
                observer({"log_format": log_format, "line": line})
            return (tmp_path / "log").read_text(encoding="utf-8").split()

        assert log("1", "2") == []
        reactor.advance(0)
        assert log() == ["1", "2"]
        assert log("3") == ["1", "2"]
        assert log("4", log_format="other") == ["1", "2", "3", "4"]
        assert len(log(*map(str, range(5, 5 + MAX_LINES + 1)))) == 4 + MAX_LINES
        reactor.shut_down()
        assert log()[-1] == str(5 + MAX_LINES)
        assert log("last")[-1] == "last"
        reactor.advance(0)
        assert len(log()) == 6 + MAX_LINES
        file.close()

    @pytest.mark.parametrize(("level", "logged"), [("debug", 4), ("info", 3), ("warn", 2), ("error", 1)])
    def test_drops_events_below_the_level(self, level, logged):
        output = io.StringIO()
        observer = make_observer(output, LogSettings(level=level))
        for one in (LogLevel.debug, LogLevel.info, LogLevel.warn, LogLevel.error):
            observer(event(log_level=one))
        assert len(output.getvalue().splitlines()) == logged

    def test_limits_the_events_of_a_kind_and_counts_the_rest(self):
        """A client that makes an endpoint fail causes a traceback each time."""
        output, reactor = io.StringIO(), RunningReactor()
        observer = TurnObserver(output, format_text, reactor, LogSettings(max_rate=10))
        for number in range(500):
            observer(event("", log_format="endpoint failed {number}", number=number, log_failure=failure(OSError())))
        observer(event("another kind"))
        assert output.getvalue().count("endpoint failed") == 10
        assert "another kind" in output.getvalue()
        reactor.advance(1.1)
        reactor.advance(0)
        assert output.getvalue().endswith("[wsserver#warn] log events suppressed=490\n")
        observer(event("", log_format="endpoint failed {number}", number=1))
        assert output.getvalue().endswith("endpoint failed 1\n")

    def test_rotates_the_file_and_deletes_the_oldest(self, tmp_path):
        """A gigabyte of log lines is in at most ten files; here, the files are smaller."""
        settings = LogSettings(max_rate=0, max_size=10_000, max_files=4)
        observer = file_observer({"logfile": str(tmp_path / "ws.log")}, settings)
        for number in range(2000):
            observer(event(f"{number}" * 20))
        files = sorted(tmp_path.iterdir())
        assert [file.name for file in files] == ["ws.log", "ws.log.1", "ws.log.2", "ws.log.3"]
        assert all(file.stat().st_size < 11_000 for file in files)
        assert "1999" in files[0].read_text() + files[1].read_text()

    def test_the_files_after_a_rotation_have_the_mode_of_the_first(self, tmp_path, monkeypatch):
        """twistd sets the umask of a daemon to 077 after it has opened the log."""
        path = tmp_path / "ws.log"
        before = os.umask(0o022)
        try:
            observer = file_observer({"logfile": str(path)}, LogSettings(max_rate=0, max_size=1000, max_files=3))
            os.umask(0o077)
            for _ in range(100):
                observer(event("x" * 100))
        finally:
            os.umask(before)
        assert {file.name: oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()} == {
            "ws.log": "0o644",
            "ws.log.1": "0o644",
            "ws.log.2": "0o644",
        }

    def test_writes_each_event_as_one_line_of_standard_output(self, monkeypatch):
        output = io.StringIO()
        monkeypatch.setattr(sys, "stdout", output)
        file_observer({"nodaemon": True}, LogSettings(max_rate=0))(event("hello\n"))
        assert output.getvalue().endswith(" [wsserver#info] hello\\n\n")


class WorkerTests:
    """The lines of several processes in one log."""

    def test_the_number_of_the_worker_ends_the_line(self):
        assert numbered(format_text, 2)(event("hello")).endswith("] hello worker=2\n")
        assert parse_json(numbered(format_json, 2)(event("hello")))["worker"] == 2

    def test_a_traceback_follows_the_line_with_the_number(self):
        text = numbered(format_text, 2)(event("failed", log_failure=failure(ValueError("x"))))
        lines = text.splitlines()
        assert lines[0].endswith("failed worker=2")
        assert lines[-1].endswith("ValueError: x")
        assert (
            parse_json(numbered(format_json, 2)(event("failed", log_failure=failure(ValueError("x")))))["worker"] == 2
        )

    def test_an_event_that_is_not_written_stays_so(self):
        assert numbered(format_text, 2)(event("", log_format="")) is None

    @pytest.mark.parametrize("form", FORMATS)
    def test_lines_that_a_worker_has_formatted_are_written_unchanged(self, form):
        assert FORMATS[form](event(log_format=RAW, raw="one worker=1\n{two}")) == "one worker=1\n{two}\n"

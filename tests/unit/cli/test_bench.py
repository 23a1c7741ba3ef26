"""Tests for wsserver/cli/bench.py: the arguments, and the summary."""

import argparse

import pytest

from wsserver.cli.bench import Target, add_arguments, command_of, parse_target, summarize
from wsserver.errors import SettingError


def parse(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def command(*words):
    """Return the arguments of the load generator as text."""
    chosen = parse(*words)
    return " ".join(command_of(chosen, parse_target(chosen.url), "192.0.2.1"))


class TargetTests:
    @pytest.mark.parametrize(
        ("url", "target"),
        [
            ("ws://h", Target("h", 80, False, "/", "h")),
            ("wss://h/a?b=c", Target("h", 443, True, "/a?b=c", "h")),
            ("ws://[::1]:8080/echo", Target("::1", 8080, False, "/echo", "[::1]:8080")),
        ],
    )
    def test_a_url_has_host_port_path_and_query(self, url, target):
        assert parse_target(url) == target

    @pytest.mark.parametrize(
        "url", ["", "h", "http://h", "ws://", "ws://u@h", "ws://h:0", "ws://h:x", "ws://h/#a", "ws://h/ a", "ws://ü"]
    )
    def test_refuses_other_urls(self, url):
        with pytest.raises(SettingError, match="expected a URL such as"):
            parse_target(url)


class CommandTests:
    def test_echoes_by_default(self):
        words = command("ws://h:1/e")
        assert words.startswith("echo --port 1 --address 192.0.2.1 --host h:1 --path /e --connections 100 --size 64 ")
        assert "--tls" not in words

    def test_verifies_the_certificate_unless_insecure(self):
        assert "--tls --verify h " in command("wss://h")
        assert "--verify" not in command("wss://h", "--insecure")

    def test_a_rate_measures_latency(self):
        words = command("ws://h", "--rate", "500")
        assert words.startswith("latency ")
        assert words.endswith("--rate 500")

    def test_a_channel_measures_deliveries(self):
        words = command("ws://h", "--centrifuge", "news", "--token", "t")
        assert words.startswith("fanout ")
        assert words.endswith("--in-flight 1 --centrifuge --channel news --token t")

    def test_passes_headers_origin_and_subprotocol(self):
        words = command("ws://h", "--header", "A: b", "--origin", "https://x", "--subprotocol", "p")
        assert "--header A: b --header Origin: https://x --header Sec-WebSocket-Protocol: p" in words

    @pytest.mark.parametrize(
        ("words", "option"),
        [
            (("--rate", "1", "--in-flight", "2"), "--in-flight"),
            (("--rate", "1", "--centrifuge", "a"), "--rate"),
            (("--token", "t"), "--token"),
            (("--centrifuge", ""), "--centrifuge"),
            (("--centrifuge", 'a"b'), "--centrifuge"),
            (("--centrifuge", "a", "--token", "a b"), "--token"),
            (("--header", "no colon"), "--header"),
            (("--header", "A: b\r\nC: d"), "--header"),
            (("--origin", "\x01"), "--header"),
        ],
    )
    def test_refuses_options_that_are_invalid_or_do_not_fit(self, words, option):
        with pytest.raises(SettingError) as caught:
            command("ws://h", *words)
        assert caught.value.where == option

    @pytest.mark.parametrize(
        "words",
        [
            ("--connections", "0"),
            ("--connections", "19001"),
            ("--size", "3"),
            ("--in-flight", "x"),
            ("--duration", "0"),
            ("--duration", "nan"),
            ("--rate", "-1"),
            ("--payload", "xml"),
        ],
    )
    def test_refuses_numbers_out_of_range(self, words, capsys):
        with pytest.raises(SystemExit):
            parse("ws://h", *words)
        assert "expected" in capsys.readouterr().err or words[0] == "--payload"


class SummaryTests:
    FIGURES = {"rate": 10.4, "messages": 104, "load_busy": 0.5, "p50_us": 12.2, "p99_us": 2500.0, "max_us": 3.21e6}

    def test_shows_latencies_in_suitable_units(self):
        lines = summarize(parse("ws://h"), self.FIGURES).splitlines()
        assert lines[1] == "replies: 104, all correct; 10 per second"
        assert lines[2] == "latency: p50 12 µs  p99 2.5 ms  longest 3.21 s"
        assert lines[3] == "load generator: 50% of a core"

    def test_says_when_the_load_generator_may_be_the_bottleneck(self):
        assert "may be the bottleneck" in summarize(parse("ws://h"), {**self.FIGURES, "load_busy": 0.95})
        assert "deliveries" in summarize(parse("ws://h", "--centrifuge", "a"), self.FIGURES)

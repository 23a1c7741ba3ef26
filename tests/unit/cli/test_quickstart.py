"""Tests for wsserver/cli/quickstart.py: which options are added to the user's, and what the server prints to try."""

import re
import socket
import threading
from dataclasses import replace

import pytest

from wsserver.cli.main import main
from wsserver.cli.quickstart import describe, redis_answers, trial_options
from wsserver.config.settings import Settings

pytestmark = pytest.mark.usefixtures("clean_environment")


def lines(settings, *, made=False, found_redis=False, secure=False):
    """Return the lines that are to be pasted."""
    text = "\n".join(describe(settings, "127.0.0.1:8080", secure=secure, made=made, found_redis=found_redis))
    return re.findall(r"^    (.*)$", text, re.MULTILINE)


class OptionTests:
    """The options that are added."""

    def test_adds_a_new_random_key_and_unknown_paths(self):
        first, second = (trial_options(Settings(), redis=False) for _ in range(2))
        assert (first[0], len(first[1]), first[2:]) == ("--api-key", 32, ["--catch-all", "on"])
        assert first[1] != second[1]

    def test_adds_the_redis_server_of_this_machine(self):
        assert trial_options(Settings(), redis=True)[:2] == ["--redis", "redis://127.0.0.1:6379"]

    @pytest.mark.parametrize(
        ("given", "missing"),
        [
            ({"redis": "redis://elsewhere"}, "--redis"),
            ({"api_key": "mine"}, "--api-key"),
            ({"api_insecure": True}, "--api-key"),
            ({"catch_all": "off"}, "--catch-all"),
            ({"redis": "redis://elsewhere"}, "--catch-all"),
            ({"interface": "0.0.0.0"}, "--catch-all"),
            ({"interface": "0.0.0.0"}, "--redis"),
            ({"trusted_proxy": ("127.0.0.1",)}, "--redis"),
            ({"listen": ("tcp:0",)}, "--redis"),
            ({"interface": "localhost"}, "--redis"),
        ],
    )
    def test_adds_none_that_the_user_sets_or_that_other_machines_could_use(self, given, missing):
        assert missing not in trial_options(replace(Settings(), **given), redis=True)


class RedisTests:
    """The search for a Redis server on this machine."""

    @pytest.mark.parametrize(
        ("answer", "found"), [(b"+PONG\r\n", True), (b"-NOAUTH Authentication required.\r\n", False), (b"", False)]
    )
    def test_finds_one_that_needs_no_password(self, answer, found):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve():
                with listener.accept()[0] as peer:
                    peer.recv(64)
                    peer.sendall(answer)

            thread = threading.Thread(target=serve)
            thread.start()
            assert redis_answers(listener.getsockname()[1]) is found
            thread.join()

    def test_finds_none_where_nothing_listens(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            assert not redis_answers(unused.getsockname()[1])


class DescriptionTests:
    """What the server prints to try."""

    def test_a_line_for_the_console_and_one_for_the_terminal(self):
        settings = replace(Settings(), api_key="4c79")
        assert lines(settings, made=True) == [
            'new WebSocket("ws://127.0.0.1:8080/ws?channel=foo").onmessage = event => console.log(event.data)',
            'curl -H \'X-API-Key: 4c79\' -d \'{"channel": "foo", "data": "hello"}\' http://127.0.0.1:8080/api/publish',
        ]

    def test_does_not_print_a_key_of_the_user(self):
        assert "X-API-Key: YOUR KEY" in lines(replace(Settings(), api_key="secret"))[1]

    def test_needs_no_key_with_api_insecure(self):
        assert lines(replace(Settings(), api_insecure=True))[1].startswith("curl -d ")

    def test_prints_the_schemes_of_tls(self):
        shown = "\n".join(lines(Settings(), secure=True))
        assert "wss://" in shown
        assert "https://" in shown
        assert "ws://" not in shown

    @pytest.mark.parametrize(
        ("url", "command"),
        [
            ("redis://127.0.0.1:6379", "redis-cli publish foo hello"),
            ("redis://localhost:7000/1", "redis-cli -p 7000 publish foo hello"),
            ("redis://cache", "redis-cli -h cache publish foo hello"),
        ],
    )
    def test_prints_a_command_for_redis(self, url, command):
        assert lines(replace(Settings(), redis=url))[-1] == command

    @pytest.mark.parametrize("url", ["redis://:secret@cache", "rediss://cache", "redis+sentinel://one,two/master"])
    def test_prints_none_if_the_command_would_need_more(self, url):
        assert len(lines(replace(Settings(), redis=url))) == 2

    def test_prints_how_to_use_a_redis_server_without_its_library(self):
        assert lines(Settings(), found_redis=True)[-1] == "pip install hiredis && wsserver"

    @pytest.mark.parametrize(
        "given",
        [
            {"interface": "0.0.0.0"},
            {"token_secret": "x" * 32},
            {"channel_allow": ("news",)},
            {"admin_listen": ("tcp:9000",)},
            {"workers": 2},
        ],
        ids=lambda given: next(iter(given)),
    )
    def test_prints_an_echo_if_the_page_may_not_subscribe(self, given):
        console, terminal = lines(replace(Settings(), **given))
        assert "/echo" in console
        assert terminal == "curl http://127.0.0.1:8080/health"

    def test_subscribes_with_several_workers_if_they_share_a_redis(self):
        assert "channel=foo" in lines(replace(Settings(), workers=2, redis="redis://127.0.0.1"))[0]


class ProgramTests:
    """`wsserver` with options, without a command."""

    def test_an_invalid_option_is_an_error_in_one_line(self, capsys):
        with pytest.raises(SystemExit) as caught:
            main(["--prot", "1"])
        assert caught.value.code == 1
        assert capsys.readouterr().err == "wsserver: --prot: unknown option; did you mean --port?\n"

    def test_help_is_that_of_the_program(self, capsys):
        with pytest.raises(SystemExit):
            main(["--help"])
        assert "Without a command, the server starts" in " ".join(capsys.readouterr().out.split())

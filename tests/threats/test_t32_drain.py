"""T32: SIGTERM drains the server under load, and SIGHUP reloads its options."""

import signal
import time
from collections import Counter

import pytest
from cores import SERVER_CORE, place
from draining import ECHO, PUBLISH, drain
from good_clients import GoodClients
from waiting import wait_until

from wsserver.process.signals import SAME


def prefer(pid):
    """Run a server with a higher priority than other programs of the machine."""
    place(SERVER_CORE, prefer=True, pid=pid)


def check(drained, count, figures):
    codes = Counter({(ECHO, 1012): count // 2, (PUBLISH, 3001): count // 2})
    figures.at_most(0, count - sum((drained.ended.codes & codes).values()), "clients without a close code")
    figures.at_most(0, drained.unanswered, "accepted messages and commands without an answer")
    figures.at_most(0.1, drained.seconds_to_refuse, "SIGTERM to the first refused connection", "s")


def test_every_client_gets_a_close_code_and_every_command_an_answer(figures):
    """1,000 clients under load are closed over 3 s with a code, after the answers to all that the server has read."""
    drained = drain(1000, 0.5, 2.0, "--drain-jitter", "3s", started=prefer)
    check(drained, 1000, figures)
    figures.at_least(2, drained.spread, "spread of the closes", "s")


@pytest.mark.full
def test_ten_thousand_clients_are_drained_within_ten_seconds(figures):
    """10,000 clients under load are closed over 5 s with a code, and the process exits within 10 s."""
    drained = drain(10_000, 3.0, 5.0, "--drain-jitter", "5s", started=prefer)
    check(drained, 10_000, figures)
    figures.at_least(4, drained.spread, "spread of the closes", "s")
    figures.at_most(10, drained.seconds_to_exit, "SIGTERM to the end of the process", "s")


def test_a_hundred_reloads_under_load_disconnect_nobody(start_server, tmp_path, figures):
    """SIGHUP 100 times, a third of them with a bad file: no client is disconnected, and no echo is lost."""
    file = tmp_path / "wsserver.toml"
    file.write_text('reply_prefix = "0"\n')
    server = start_server("--config", str(file))
    with GoodClients(server.port) as clients:
        for number in range(100):
            file.write_text("nonsense" if number % 3 == 0 else f'reply_prefix = "{number}"\n')
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda number=number: lines(server) > number, "the line about the reload")
        lost, disconnected = clients.finish()
    figures.at_most(0, disconnected, "clients that were disconnected")
    figures.at_most(0, lost, "echoes that were lost")
    assert server.log().count("options not reloaded") == 34


def lines(server):
    return server.log().count("options reloaded") + server.log().count("options not reloaded")


def test_a_second_signal_ends_the_server_within_a_second(start_server, figures):
    """A peer that does not answer its Close frame does not hold up the second SIGTERM."""
    server = start_server("--close-timeout", "60s", "--drain-timeout", "60s")
    with server.open() as peer:
        server.process.terminate()
        assert peer.read_close().close_code == 1012
        time.sleep(SAME)
        begin = time.monotonic()
        server.process.terminate()
        server.process.wait(30)
        figures.at_most(1, time.monotonic() - begin, "second SIGTERM to the end of the process", "s")


def test_the_deadline_ends_the_server(start_server, figures):
    """A peer that does not answer its Close frame is dropped at --drain-timeout."""
    server = start_server("--close-timeout", "60s", "--drain-timeout", "2s")
    with server.open() as peer:
        begin = time.monotonic()
        server.process.terminate()
        assert peer.read_close().close_code == 1012
        server.process.wait(30)
        figures.at_most(3, time.monotonic() - begin, "SIGTERM to the end of the process with --drain-timeout 2s", "s")

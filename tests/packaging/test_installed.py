"""An installed wsserver works from any directory, whichever way it was installed."""

import os
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from environments import Environment
from programs import run, running
from websockets.sync.client import connect


def assert_serves(port: int) -> None:
    """Fetch the page and exchange messages over a WebSocket."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/") as page:
        assert page.status == 200
        assert b"<html" in page.read()
    with connect(f"ws://127.0.0.1:{port}/ws", proxy=None) as peer:
        peer.send("name")
        assert peer.recv(timeout=30) == "my name is wsserver"


class EveryInstallationTests:
    """Installed from the wheel, from the sdist, and in editable mode."""

    def test_twistd_serves_the_page_and_a_websocket_without_errors(self, installed: Environment, tmp_path: Path):
        """The working directory is outside the project."""
        command = (installed.bin("twistd"), "-n", "--pidfile=", "wsserver", "--port", "0")
        with running(*command, directory=tmp_path) as server:
            assert_serves(server.port())
            server.stop()
            assert server.errors == ""

    def test_twistd_help_lists_wsserver(self, installed: Environment, tmp_path: Path):
        done = run(installed.bin("twistd"), "--help", directory=tmp_path)
        assert done.status == 0
        assert re.search(r"^ +wsserver +A WebSocket server", done.output, re.MULTILINE)
        assert done.errors == ""

    def test_wsserver_serve_serves_without_a_pid_file(self, installed: Environment, tmp_path: Path):
        with running(installed.bin("wsserver"), "serve", "--port", "0", directory=tmp_path) as server:
            assert_serves(server.port())
            server.stop()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["stderr.txt", "stdout.txt"]

    def test_wsserver_and_twistd_print_the_same_version(self, installed: Environment, tmp_path: Path):
        printed = run(installed.bin("wsserver"), "version", directory=tmp_path)
        assert re.fullmatch(r"wsserver [0-9]+\.[0-9]+\.[0-9]+\S* \(frames: compiled, deflate: \S+\)\n", printed.output)
        assert (printed.status, printed.errors) == (0, "")
        assert run(installed.bin("twistd"), "wsserver", "--version", directory=tmp_path).output == printed.output


class TwistTests:
    """`twist`, the newer of Twisted's two programs."""

    def test_twist_wsserver_serves_the_page_and_a_websocket(self, from_wheel: Environment, tmp_path: Path):
        with running(from_wheel.bin("twist"), "wsserver", "--port", "0", directory=tmp_path) as server:
            assert_serves(int(server.wait_for(r"127\.0\.0\.1:([0-9]+)")[1]))


def powerless() -> tuple[str, ...]:
    """Return a command prefix that makes file modes apply to the superuser too."""
    if os.geteuid() != 0:
        return ()
    return ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--")


@pytest.fixture
def sealed(from_wheel: Environment) -> Iterator[Environment]:
    """Make the site-packages of an environment read-only for the duration of a test."""
    for cache in from_wheel.site_packages.rglob("dropin.cache"):
        cache.unlink()
    directories = [Path(directory) for directory, _, _ in os.walk(from_wheel.site_packages)]
    for directory in directories:
        directory.chmod(0o555)
    yield from_wheel
    for directory in directories:
        directory.chmod(0o755)


class ReadOnlyInstallationTests:
    """Installed in a read-only directory, as in a container."""

    @pytest.mark.parametrize("log_format", ["text", "json"])
    def test_the_server_does_not_log_that_the_plugin_cache_is_unwritable(
        self, sealed: Environment, tmp_path: Path, log_format: str
    ):
        """The server does not need Twisted's plugin cache."""
        twistd = (*powerless(), sealed.bin("twistd"), "-n", "--pidfile=")
        with running(*twistd, "wsserver", "--port", "0", "--log-format", log_format, directory=tmp_path) as server:
            assert_serves(int(server.wait_for(r"ws://127\.0\.0\.1:([0-9]+)/")[1]))
            server.stop()
        printed = server.output + server.errors
        assert "dropin.cache" not in printed
        assert "plugin cache" not in printed
        assert not list(sealed.site_packages.rglob("dropin.cache")), "it was not read-only"

    @pytest.mark.parametrize("words", ["twistd --help", "twistd wsserver --help", "wsserver version"])
    def test_help_and_version_do_not_mention_the_plugin_cache(self, sealed: Environment, tmp_path: Path, words: str):
        name, *rest = words.split()
        done = run(*powerless(), sealed.bin(name), *rest, directory=tmp_path)
        assert (done.status, done.errors) == (0, "")
        assert "cache" not in done.output

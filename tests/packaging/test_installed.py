"""An installed wsserver: found by twistd from any directory, whichever way it was installed."""

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
    """Fetch the page and talk over a WebSocket."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/") as page:
        assert page.status == 200
        assert b"<html" in page.read()
    with connect(f"ws://127.0.0.1:{port}/ws", proxy=None) as peer:
        peer.send("name")
        assert peer.recv(timeout=30) == "my name is wsserver"


class EveryInstallationTests:
    """From the wheel, from the sdist, editable."""

    def test_twistd_serves_page_and_websocket(self, installed: Environment, tmp_path: Path):
        """`twistd -n wsserver` works from a directory that has nothing to do with the project."""
        command = (installed.bin("twistd"), "-n", "--pidfile=", "wsserver", "--port", "0")
        with running(*command, directory=tmp_path) as server:
            assert_serves(server.port())
            server.stop()
            assert server.errors == ""

    def test_twistd_lists_it(self, installed: Environment, tmp_path: Path):
        """`twistd --help` has a line for wsserver."""
        done = run(installed.bin("twistd"), "--help", directory=tmp_path)
        assert done.status == 0
        assert re.search(r"^ +wsserver +A WebSocket server", done.output, re.MULTILINE)
        assert done.errors == ""

    def test_wsserver_serve(self, installed: Environment, tmp_path: Path):
        """`wsserver serve` is the same server in the foreground, without a pid file."""
        with running(installed.bin("wsserver"), "serve", "--port", "0", directory=tmp_path) as server:
            assert_serves(server.port())
            server.stop()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["stderr.txt", "stdout.txt"]

    def test_version(self, installed: Environment, tmp_path: Path):
        """`wsserver version` and `twistd wsserver --version` tell the version."""
        told = run(installed.bin("wsserver"), "version", directory=tmp_path)
        assert re.fullmatch(r"wsserver [0-9]+\.[0-9]+\.[0-9]+\S* \(frames: compiled, deflate: \S+\)\n", told.output)
        assert (told.status, told.errors) == (0, "")
        assert run(installed.bin("twistd"), "wsserver", "--version", directory=tmp_path).output == told.output


class TwistTests:
    """The newer of Twisted's two programs."""

    def test_twist_serves_too(self, from_wheel: Environment, tmp_path: Path):
        """`twist wsserver` finds the plugin and serves."""
        with running(from_wheel.bin("twist"), "wsserver", "--port", "0", directory=tmp_path) as server:
            assert_serves(int(server.wait_for(r"127\.0\.0\.1:([0-9]+)")[1]))


def powerless() -> tuple[str, ...]:
    """Return what to put before a command so that it may write only where file modes let it, the superuser's too."""
    if os.geteuid() != 0:
        return ()
    return ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--")


@pytest.fixture
def sealed(from_wheel: Environment) -> Iterator[Environment]:
    """Make the site-packages of an environment read-only for a while."""
    for cache in from_wheel.site_packages.rglob("dropin.cache"):
        cache.unlink()
    directories = [Path(directory) for directory, _, _ in os.walk(from_wheel.site_packages)]
    for directory in directories:
        directory.chmod(0o555)
    yield from_wheel
    for directory in directories:
        directory.chmod(0o755)


class ReadOnlyTests:
    """Installed where the server may not write, as in a container."""

    @pytest.mark.parametrize("log_format", ["text", "json"])
    def test_nothing_is_said_about_the_plugin_cache(self, sealed: Environment, tmp_path: Path, log_format: str):
        """Twisted cannot write its plugin cache there; that harms nothing, so nobody reads about it."""
        twistd = (*powerless(), sealed.bin("twistd"), "-n", "--pidfile=")
        with running(*twistd, "wsserver", "--port", "0", "--log-format", log_format, directory=tmp_path) as server:
            assert_serves(int(server.wait_for(r"ws://127\.0\.0\.1:([0-9]+)/")[1]))
            server.stop()
        said = server.output + server.errors
        assert "dropin.cache" not in said
        assert "plugin cache" not in said
        assert not list(sealed.site_packages.rglob("dropin.cache")), "it was not read-only"

    @pytest.mark.parametrize("words", ["twistd --help", "twistd wsserver --help", "wsserver version"])
    def test_the_other_commands(self, sealed: Environment, tmp_path: Path, words: str):
        """Nor do `--help` and `wsserver version` say anything about it."""
        name, *rest = words.split()
        done = run(*powerless(), sealed.bin(name), *rest, directory=tmp_path)
        assert (done.status, done.errors) == (0, "")
        assert "cache" not in done.output

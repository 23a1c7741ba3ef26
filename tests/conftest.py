"""Fixtures for tests of every kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pki import Authority, make_authority
from redis_server import RedisServer

from wsserver.config.settings import TABLE


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Create a root and an intermediate certificate authority, like public ones."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Start a Redis; kill it after the test."""
    directory = tmp_path / "redis"
    directory.mkdir()
    server = RedisServer(directory)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables that change the options or the help of the server from the environment."""
    for name in ("COLUMNS", "WSSERVER_CONFIG", *(option.variable for option in TABLE.values())):
        monkeypatch.delenv(name, raising=False)

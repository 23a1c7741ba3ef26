"""Fixtures for tests of every kind."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pki import Authority, make_authority
from redis_server import RedisServer


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
    # Unknown ones too: the server refuses them. The variable that selects the Python twins is no option.
    for name in set(os.environ) - {"WSSERVER_PUREPYTHON"}:
        if name == "COLUMNS" or name.startswith("WSSERVER_"):
            monkeypatch.delenv(name)

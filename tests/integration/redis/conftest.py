"""Redis servers for the tests of the connection to Redis."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer


@pytest.fixture
def make_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """
    Return a function that starts Redis servers or sentinels, each in a directory of its own.

    The function's arguments are the class to start and the arguments of that class; `lines` is more text for the
    configuration file. The fixture kills every process after the test.
    """
    servers: list[RedisServer] = []

    def make(kind: type[RedisServer] = RedisServer, *arguments: Any, lines: str = "", **options: Any) -> RedisServer:
        directory = tmp_path / f"redis-{len(servers)}"
        directory.mkdir()
        if lines:
            options["include"] = directory / "more.conf"
            options["include"].write_text(lines)
        servers.append(kind(directory, *arguments, **options))
        servers[-1].start()
        return servers[-1]

    yield make
    for server in servers:
        server.kill()

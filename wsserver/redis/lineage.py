"""
Detect that Redis may have lost acknowledged data.

Data can be lost in a restart, or when another master takes over.
"""

from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import inlineCallbacks

from wsserver.redis.connection import NotConnected, RedisError
from wsserver.redis.errors import describe_reply, is_refused_command

__all__ = ["read_lineage"]


@inlineCallbacks
def read_lineage(connection: Any, *, alone: bool, warn: Callable[[str], None]) -> Generator[Any, Any, str]:
    """
    Return an identifier of the data in Redis, which changes when acknowledged data may have been lost.

    After a crash, Redis starts with its last snapshot, or empty. Offsets would then be assigned a second time, and
    clients could not distinguish new publications from old ones, so the streams must begin again. A Redis that appends
    every command to a file (`appendonly yes`) starts with the data it had
    (https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/).

    Args:
        connection: a connection for commands.
        alone: whether this is the only Redis: no sentinels, so no other master can take over.
        warn: called with a message if a Redis that is alone refuses INFO; then data loss cannot be detected.

    Returns:
        Fires with the `run_id` of Redis, which is different for every Redis process. Fires with an empty string if
        Redis is alone and has an append-only file or refuses INFO. Fails with `NotConnected` on any other error.
    """
    try:
        persistence = yield connection.execute_command("INFO", "persistence")
        if alone and _fields(persistence).get(b"aof_enabled") == b"1":
            return ""
        server = yield connection.execute_command("INFO", "server")
    except RedisError as error:
        if alone and is_refused_command(str(error)):
            warn(f"data that Redis loses in a restart is not noticed without INFO: {describe_reply(str(error))}")
            return ""
        raise NotConnected(connection.why or describe_reply(str(error))) from error
    return _fields(server).get(b"run_id", b"").decode("ascii")


def _fields(info: bytes) -> dict[bytes, bytes]:
    lines = (line.partition(b":") for line in info.splitlines())
    return {name: value for name, _, value in lines}

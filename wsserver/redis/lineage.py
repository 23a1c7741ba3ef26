"""Whether a Redis still has all that it had: what it acknowledged may be gone after a restart, or on another master."""

from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import inlineCallbacks

from wsserver.redis.connection import NotConnected, RedisError
from wsserver.redis.errors import describe_reply, is_refused_command

__all__ = ["read_lineage"]


@inlineCallbacks
def read_lineage(connection: Any, *, alone: bool, warn: Callable[[str], None]) -> Generator[Any, Any, str]:
    """
    Name what a Redis has, so that it gets another name when it may lack something that it had acknowledged.

    A Redis that was killed comes back with the snapshot it made last, or with nothing. Offsets would be given a second
    time then, and nobody could tell what is new: its streams must begin again. One that appends every command to a
    file (`appendonly yes`) comes back with what it had
    (https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/).

    Args:
        connection: to it.
        alone: whether no other Redis may take its place.
        warn: called with a sentence if INFO is refused, which is needed only to notice a loss.

    Returns:
        Fires with its `run_id`, which every process of Redis has of its own; with nothing where it keeps what it has,
        or does not say. Fails with `NotConnected` where it must say it and does not.
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

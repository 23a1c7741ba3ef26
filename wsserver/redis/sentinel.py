"""
Finding the Redis master with the help of sentinels, and identifying the data in Redis.

A sentinel is a process that monitors a Redis master and its replicas, and knows which of them is the master. This
module follows https://redis.io/docs/latest/develop/reference/sentinel-clients/: the server asks the sentinels for the
address of the master, and then verifies with the command ROLE that the Redis at this address is the master. It asks all
sentinels at the same time, and uses the address that most of them name. So a single sentinel that is cut off from the
others does not decide.
"""

from collections import Counter
from collections.abc import Callable, Generator
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import DeferredList, inlineCallbacks

from wsserver.config.redis_url import RedisURL
from wsserver.redis.connection import Connection, NotConnected, RedisError, connect, endpoint
from wsserver.redis.errors import describe_reply, is_refused_command

__all__ = ["find_master", "prove_master", "read_dataset_id"]

CONNECT_TIMEOUT = 1.0
"""Maximum seconds to connect to a sentinel and to receive its answer."""


@inlineCallbacks
def find_master(url: RedisURL, trust: Any, reactor: Any) -> Generator[Any, Any, tuple[str, int]]:
    """
    Ask all sentinels for the address of the master.

    Args:
        url: the addresses of the sentinels, and the name under which they know the master.
        trust: the CA certificates to trust, as for `wsserver.redis.connection.endpoint`.
        reactor: opens connections and schedules timeouts.

    Returns:
        A Deferred that fires with the master's host and port. It fails with `NotConnected` if no sentinel names a
        master.
    """
    requests = [_ask(url, where, trust, reactor).addTimeout(CONNECT_TIMEOUT, reactor) for where in url.hosts]
    answers = yield DeferredList(requests, consumeErrors=True)
    named = Counter(answer for good, answer in answers if good)
    if not named:
        problems = (
            f"{host}:{port}: {'no answer' if failure.check(defer.TimeoutError) else failure.getErrorMessage()}"
            for (host, port), (_, failure) in zip(url.hosts, answers, strict=True)
        )
        raise NotConnected(f"no sentinel names a master: {'; '.join(problems)}")
    address: tuple[str, int] = named.most_common(1)[0][0]
    return address


@inlineCallbacks
def _ask(url: RedisURL, where: tuple[str, int], trust: Any, reactor: Any) -> Generator[Any, Any, tuple[str, int]]:
    connection = yield connect(
        Connection,
        endpoint(reactor, *where, tls=url.tls, trust=trust),
        username=url.sentinel_username,
        password=url.sentinel_password,
    )
    try:
        answer = yield connection.execute("SENTINEL", "get-master-addr-by-name", url.master)
    except RedisError as error:
        raise NotConnected(_describe_refusal(str(error))) from error
    finally:
        connection.hang_up()
    if not answer:
        raise NotConnected(f"knows no master named {url.master}")
    return answer[0].decode("ascii"), int(answer[1])


def _describe_refusal(reply: str) -> str:
    if reply.startswith("NOAUTH"):
        return f"the sentinel requires a password; add ?sentinel_password= to --redis: {reply}"
    return describe_reply(reply)


@inlineCallbacks
def prove_master(connection: Any) -> Generator[Any, Any, None]:
    """
    Verify with the command ROLE that a Redis is the master.

    Args:
        connection: a connection for commands to this Redis.

    Returns:
        A Deferred that fires with None if this Redis is a master. It fails with `NotConnected` if this Redis is a
        replica or refuses the command ROLE.
    """
    try:
        role = yield connection.execute("ROLE")
    except RedisError as error:
        raise NotConnected(f"cannot determine whether Redis is the master: {describe_reply(str(error))}") from error
    if role[0] != b"master":
        raise NotConnected("the sentinels name a Redis that is not the master yet")


@inlineCallbacks
def read_dataset_id(connection: Any, *, alone: bool, warn: Callable[[str], None]) -> Generator[Any, Any, str]:
    """
    Read the dataset ID: an identifier of the data in Redis. It changes if Redis may have lost acknowledged data.

    After a crash, Redis starts with its last snapshot, or without data. Offsets would then be assigned a second time,
    and clients could not distinguish new publications from old ones. Therefore every stream must start again, with a
    new epoch. A Redis that appends every command to a file (`appendonly yes`) restarts with the data that it had
    (https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/).

    Args:
        connection: a connection for commands.
        alone: whether this is the only Redis. It is if there are no sentinels, which could make another Redis the
            master.
        warn: called with a message if a Redis that is alone refuses the command INFO, because the server then cannot
            detect data loss.

    Returns:
        A Deferred that fires with the `run_id` of Redis, which is different after each start of Redis. It fires with an
        empty string if Redis is alone, and appends every command to a file or refuses INFO. It fails with
        `NotConnected` on any other error.
    """
    try:
        persistence = yield connection.execute("INFO", "persistence")
        if alone and _fields(persistence).get(b"aof_enabled") == b"1":
            return ""
        server = yield connection.execute("INFO", "server")
    except RedisError as error:
        if alone and is_refused_command(str(error)):
            reply = describe_reply(str(error))
            warn(f"cannot detect whether Redis loses data in a restart, because it refuses INFO: {reply}")
            return ""
        raise NotConnected(connection.why or describe_reply(str(error))) from error
    return _fields(server).get(b"run_id", b"").decode("ascii")


def _fields(info: bytes) -> dict[bytes, bytes]:
    lines = (line.partition(b":") for line in info.splitlines())
    return {name: value for name, _, value in lines}

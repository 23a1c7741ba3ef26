"""
Where the master of a Redis is, as its sentinels know it.

Follows https://redis.io/docs/latest/develop/reference/sentinel-clients/: the sentinels are asked before every
connection, and who was named must say itself that it is the master. All are asked at once, and the address that most
of them name is taken, so that one that was cut off from the others does not decide.
"""

from collections import Counter
from collections.abc import Generator
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import DeferredList, inlineCallbacks

from wsserver.config.redis_url import RedisURL
from wsserver.redis.connection import Connection, NotConnected, RedisError, connect, endpoint
from wsserver.redis.errors import describe_reply

__all__ = ["find_master", "prove_master"]

PATIENCE = 1.0
"""Seconds for a sentinel to answer."""


@inlineCallbacks
def find_master(url: RedisURL, trust: Any, reactor: Any) -> Generator[Any, Any, tuple[str, int]]:
    """
    Ask the sentinels for the master.

    Args:
        url: names the sentinels and the master.
        trust: the certificates to trust, as for `endpoint`.
        reactor: what it runs on.

    Returns:
        Fires with its host and port; fails with `NotConnected`.
    """
    asked = [_ask(url, where, trust, reactor).addTimeout(PATIENCE, reactor) for where in url.hosts]
    answers = yield DeferredList(asked, consumeErrors=True)
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
        answer = yield connection.execute_command("SENTINEL", "get-master-addr-by-name", url.master)
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
    Make sure that a Redis is a master.

    Args:
        connection: to it.

    Returns:
        Fires where it is; fails with `NotConnected` where it is none.
    """
    try:
        role = yield connection.execute_command("ROLE")
    except RedisError as error:
        raise NotConnected(f"it does not say whether it is the master: {describe_reply(str(error))}") from error
    if role[0] != b"master":
        raise NotConnected("the sentinels name one that is not the master yet")

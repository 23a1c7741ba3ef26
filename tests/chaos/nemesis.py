"""The faults of a run."""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence

from accounts import Accounts
from net import get
from publishers import Publishers
from stage import NotReadyError, Server, Stage
from subscribers import Subscriber

__all__ = ["Nemesis"]

TIMEOUT = 30.0
"""Seconds to wait until all servers are ready."""


class Nemesis:
    """
    Injects faults, one after another; the servers must recover from each.

    Args:
        stage: the processes.
        accounts: the records to add to.
        subscribers: the subscribers whose connections it disturbs.
        publishers: the publishers that it makes publish more than a slow reader can read.
        rng: the random number generator; the same seed gives the same faults.
    """

    def __init__(
        self,
        stage: Stage,
        accounts: Accounts,
        subscribers: Sequence[Subscriber],
        publishers: Publishers,
        rng: random.Random,
    ) -> None:
        self._stage, self._accounts = stage, accounts
        self._subscribers, self._publishers = subscribers, publishers
        self._rng = rng

    def plan(self, count: int, only: Sequence[str] | None = None) -> list[str]:
        """
        Choose faults.

        Args:
            count: the number of faults.
            only: the faults to inject, in this order, repeatedly. Without them, each fault comes once before any is
                repeated, in random order. If all faults fit in, the middle one is `replace_redis`.
        """
        if only:
            return [only[number % len(only)] for number in range(count)]
        names: list[str] = []
        while len(names) < count:
            names += self._rng.sample(sorted(FAULTS), len(FAULTS))
        del names[count:]
        if count >= len(FAULTS):
            names[count // 2] = "an empty Redis in its place"
        return names

    async def strike(self, name: str) -> None:
        """Inject a fault, and wait until all servers are ready again."""
        await (FAULTS | REPLACED)[name](self)
        self._accounts.healed.append((name, time.monotonic()))
        await self.all_ready()

    async def all_ready(self) -> None:
        """
        Wait until every server answers /ready with 200.

        Raises:
            NotReadyError: one has ended, or does not become ready within `TIMEOUT`.
        """
        try:
            async with asyncio.timeout(TIMEOUT):
                for server in self._stage.servers:
                    while await get(server.port, "/ready") != 200:
                        if server.has_ended:
                            raise NotReadyError(self._stage.describe_servers())
                        await asyncio.sleep(0.1)
        except TimeoutError:
            raise NotReadyError(self._stage.describe_servers()) from None

    async def _pause(self, low: float, high: float) -> None:
        await asyncio.sleep(self._rng.uniform(low, high))

    async def kill_redis(self) -> None:
        """Kill Redis, and restart it with the data on disk."""
        await asyncio.to_thread(self._stage.redis.kill)
        await self._pause(0.5, 3)
        await asyncio.to_thread(self._stage.redis.start)

    async def stop_redis(self) -> None:
        """Stop Redis as an administrator does, and restart it."""
        await asyncio.to_thread(self._stage.redis.stop)
        await self._pause(0.2, 1)
        await asyncio.to_thread(self._stage.redis.start)

    async def replace_redis(self) -> None:
        """Replace Redis by an empty one, which writes to the disk only in `set_back_redis`."""
        await asyncio.to_thread(self._stage.replace_redis)

    async def set_back_redis(self) -> None:
        """
        Make Redis write a snapshot, and kill Redis seconds later.

        Restarted without `appendonly`, Redis loads the old snapshot.
        """
        await self._redis("SAVE")
        await self._pause(1, 4)
        await asyncio.to_thread(self._stage.redis.kill)
        await asyncio.to_thread(self._stage.redis.start)

    async def freeze_redis(self, low: float, high: float) -> None:
        """Freeze Redis for a while, with its sockets open."""
        self._stage.redis.freeze()
        await self._pause(low, high)
        self._stage.redis.thaw()

    async def freeze_redis_shortly(self) -> None:
        """Freeze Redis for so short a time that the servers do not notice."""
        await self.freeze_redis(0.2, 1.2)

    async def freeze_redis_for_long(self) -> None:
        """Freeze Redis until the servers disconnect from it."""
        await self.freeze_redis(5, 7)

    async def _redis(self, *words: str) -> None:
        await asyncio.to_thread(self._stage.redis.run, *words)

    async def flush(self) -> None:
        """Delete all data in Redis."""
        await self._redis("FLUSHALL")

    async def flush_scripts(self) -> None:
        """Delete the scripts in Redis."""
        await self._redis("SCRIPT", "FLUSH")

    async def cut_listening(self) -> None:
        """Close the connections on which servers subscribe to Redis."""
        await self._redis("CLIENT", "KILL", "TYPE", "pubsub")

    async def cut_commands(self) -> None:
        """Close the connections on which servers publish to Redis."""
        await self._redis("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def _any_server(self) -> Server:
        return self._rng.choice(self._stage.servers)

    async def _end_server(self, number: signal.Signals) -> None:
        server = self._any_server()
        await asyncio.to_thread(server.end, number)
        await self._pause(0, 2)
        server.start()

    async def kill_server(self) -> None:
        """Kill a server, and restart it."""
        await self._end_server(signal.SIGKILL)

    async def stop_server(self) -> None:
        """Stop a server gracefully, and restart it."""
        await self._end_server(signal.SIGTERM)

    async def freeze_server(self) -> None:
        """Freeze a server for a while. Redis may disconnect the server, and its subscribers wait."""
        server = self._any_server()
        server.freeze()
        await self._pause(1, 6)
        server.thaw()

    async def pull_cable(self, *, lose: bool) -> None:
        """Disconnect one server from Redis for a while."""
        cable = self._any_server().cable
        cable.pull()
        await self._pause(1, 7)
        cable.plug_in(lose=lose)

    async def pull_cable_losing(self) -> None:
        """Disconnect one server from Redis; data in transit is lost."""
        await self.pull_cable(lose=True)

    async def pull_cable_delaying(self) -> None:
        """Disconnect one server from Redis; data in transit arrives late."""
        await self.pull_cable(lose=False)

    async def drop_sockets(self) -> None:
        """Close the connections of a third of the subscribers. They reconnect within a few seconds."""
        for subscriber in self._rng.sample(self._subscribers, len(self._subscribers) // 3):
            subscriber.drop(self._rng.uniform(0, 4))
        await asyncio.sleep(4)

    async def slow_readers(self) -> None:
        """Stop a fifth of the subscribers from reading, while large publications are sent to some of their channels."""
        slow = self._rng.sample(self._subscribers, max(1, len(self._subscribers) // 5))
        channels = sorted({channel for subscriber in slow for channel in subscriber.logs})
        for channel in self._rng.sample(channels, max(1, len(channels) // 3)):
            self._publishers.padding[channel] = 50_000
        await asyncio.gather(*(subscriber.stall(self._rng.uniform(3, 8)) for subscriber in slow))
        self._publishers.padding.clear()

    async def two_at_once(self) -> None:
        """Inject a fault of Redis, and another fault before the first one is over."""
        first, second = self._rng.choice(sorted(OF_REDIS)), self._rng.choice(sorted(OF_OTHERS))

        async def later() -> None:
            await self._pause(0, 1.5)
            await OF_OTHERS[second](self)

        await asyncio.gather(OF_REDIS[first](self), later())


Fault = Callable[[Nemesis], Awaitable[None]]

OF_REDIS: dict[str, Fault] = {
    "Redis killed and started": Nemesis.kill_redis,
    "Redis stopped and started": Nemesis.stop_redis,
    "Redis set back": Nemesis.set_back_redis,
    "Redis frozen for a moment": Nemesis.freeze_redis_shortly,
    "Redis frozen for seconds": Nemesis.freeze_redis_for_long,
    "Redis emptied": Nemesis.flush,
    "scripts flushed": Nemesis.flush_scripts,
    "listening connections cut": Nemesis.cut_listening,
    "command connections cut": Nemesis.cut_commands,
}
OF_OTHERS: dict[str, Fault] = {
    "cable of a server pulled": Nemesis.pull_cable_losing,
    "cable of a server slow": Nemesis.pull_cable_delaying,
    "server frozen": Nemesis.freeze_server,
    "server killed": Nemesis.kill_server,
    "server stopped": Nemesis.stop_server,
    "sockets of subscribers cut": Nemesis.drop_sockets,
    "slow readers": Nemesis.slow_readers,
}
FAULTS: dict[str, Fault] = OF_REDIS | OF_OTHERS | {"two at once": Nemesis.two_at_once}
REPLACED: dict[str, Fault] = {"an empty Redis in its place": Nemesis.replace_redis}

"""Publishers of all kinds. They record which publications were acknowledged."""

import asyncio
import itertools
import random
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from accounts import Accounts, Position, Publication
from net import HTTP, NoAnswerError, Redis
from subscribers import Centrifuge

__all__ = ["Publishers"]

OFF = "off:"
"""Prefix of channels without history; their publications count as plain."""

RETRIES = 12
"""Maximum number of attempts with an idempotency key; a publication without one is attempted once."""


class Publishers:
    """
    All publishers.

    Args:
        accounts: the records to add to.
        ports: the ports of the servers.
        redis_port: the port of Redis.
        key: the API key.
        clients: the clients that publish over the Centrifuge protocol.
        rng: the random number generator for all choices.
    """

    def __init__(
        self,
        accounts: Accounts,
        ports: Sequence[int],
        redis_port: int,
        key: str,
        clients: Sequence[Centrifuge],
        rng: random.Random,
    ) -> None:
        self._accounts = accounts
        self._ports, self._redis_port, self._key = ports, redis_port, key
        self._clients, self._rng = clients, rng
        self._numbers = itertools.count(1)
        self._prefix = secrets.token_hex(4)
        """Prefix of the idempotency keys, which the server remembers from earlier runs."""
        self.padding: dict[str, int] = {}
        """Channel -> number of bytes by which its publications are currently padded."""

    async def run(self, channels: Sequence[str], rate: float) -> None:
        """
        Publish until cancelled.

        Args:
            channels: the channels to publish to.
            rate: publications per second in each channel; three in four are made over HTTP.
        """
        async with asyncio.TaskGroup() as group:
            for channel in channels:
                for way, share in ((self.over_http, 0.75), (self._by_client, 0.15), (self.plainly, 0.1)):
                    group.create_task(self._repeat(way, channel, 1 / (rate * share)))

    async def _repeat(self, way: Callable[..., Any], channel: str, pause: float) -> None:
        wire = HTTP(self._key) if way == self.over_http else Redis(self._redis_port)
        due = time.monotonic() + self._rng.uniform(0, pause)
        try:
            while True:
                # After an outage, missed publications are not made up for.
                due = max(due + pause * self._rng.uniform(0.5, 1.5), time.monotonic() - pause)
                await asyncio.sleep(due - time.monotonic())
                await way(channel, wire)
        finally:
            wire.close()

    def _new(self, channel: str, *, plain: bool) -> tuple[Publication, dict[str, Any]]:
        plain = plain or channel.startswith(OFF)
        sent = Publication(next(self._numbers), channel, plain, time.monotonic())
        self._accounts.sent[sent.number] = sent
        data: dict[str, Any] = {"n": sent.number, "text": "the same in every publication, so that a delta is smaller"}
        if padding := self.padding.get(channel):
            data["pad"] = "x" * padding
        return sent, data

    async def over_http(self, channel: str, wire: HTTP) -> Publication:
        """Publish over HTTP; every second publication has an idempotency key, and is retried until acknowledged."""
        sent, data = self._new(channel, plain=False)
        body: dict[str, Any] = {"channel": channel, "data": data}
        # Without a stream, a retry cannot be distinguished from a duplicate.
        idempotent = sent.number % 2 == 0 and not sent.plain
        if idempotent:
            body["idempotency_key"] = f"{self._prefix}-{sent.number}"
        for _ in range(RETRIES if idempotent else 1):
            try:
                status, answer = await wire.post(self._rng.choice(self._ports), "/api/publish", body)
            except NoAnswerError:
                status, answer = 0, None
            if status == 200:
                if not sent.plain:
                    sent.positions.add(Position(answer["result"]["epoch"], answer["result"]["offset"]))
                sent.acked = time.monotonic()
                break
            # Another server may succeed.
            wire.close()
            await asyncio.sleep(0.3)
        return sent

    async def _by_client(self, channel: str, _: object) -> None:
        sent, data = self._new(channel, plain=False)
        if await self._rng.choice(self._clients).publish(channel, data):
            sent.acked = time.monotonic()

    async def plainly(self, channel: str, wire: Redis) -> Publication:
        """Publish directly to Redis."""
        sent, data = self._new(channel, plain=True)
        try:
            await wire.publish(channel, b'{"n":%d}' % data["n"])
        except NoAnswerError:
            await asyncio.sleep(0.2)
        else:
            sent.acked = time.monotonic()
        return sent

    async def mark(self, channels: Sequence[str]) -> None:
        """Publish a last publication and a last plain one in every channel, until each is acknowledged."""
        for channel in channels:
            http, redis = HTTP(self._key), Redis(self._redis_port)
            marker = await self.over_http(channel, http)
            while marker.acked is None:
                marker = await self.over_http(channel, http)
            plain = await self.plainly(channel, redis)
            while plain.acked is None:
                plain = await self.plainly(channel, redis)
            self._accounts.markers[channel] = [marker.number, plain.number]
            http.close()
            redis.close()

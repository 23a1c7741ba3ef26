"""Run Centrifugo's official Python SDK, with the same orders and events as `sdk.js`, by JSON or by Protobuf."""

import asyncio
import base64
import dataclasses
import json
import sys
from typing import Any

import centrifuge

URL, OPTIONS = f"{sys.argv[1]}/connection/websocket", json.loads(sys.argv[2])
PROTOBUF = OPTIONS.get("protobuf", False)
NAMES = {
    "conn_info": "connInfo",
    "chan_info": "chanInfo",
    "was_recovering": "wasRecovering",
    "stream_position": "streamPosition",
    "num_clients": "numClients",
    "num_users": "numUsers",
}
WANTED: list[asyncio.Future[str]] = []


def plain(value: Any) -> Any:
    """Convert the SDK's values to JSON with the names of the JavaScript SDK."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        shown = {NAMES.get(name, name): plain(one) for name, one in fields.items() if one is not None}
        return {**shown.pop("pub", {}), **shown}
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        try:
            return json.loads(value)
        except ValueError:
            return {"base64": base64.b64encode(value).decode()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def pack(value: Any) -> Any:
    """Return a value as the SDK takes it: with Protobuf, as the bytes of its JSON text."""
    return json.dumps(value).encode() if PROTOBUF else value


def report(line: dict[str, Any]) -> None:
    """Write a line of JSON to standard output."""
    print(json.dumps(line), flush=True)


async def request_token(of: str, channel: str = "") -> str:
    """Request a token from the test."""
    WANTED.append(asyncio.get_running_loop().create_future())
    report({"event": "token wanted", "of": of, "channel": channel})
    return await WANTED[-1]


class Reporter:
    """Has a handler for every event of the SDK; each handler reports its event to the test."""

    def __init__(self, of: str, **more: str) -> None:
        self._of, self._more = of, more

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)

        async def handler(context: Any) -> None:
            event = name.removeprefix("on_")
            of = self._of
            if of == "client" and event in ("publication", "join", "leave", "subscribed", "unsubscribed"):
                of = "server"
            report({"event": event, "of": of, **self._more, **plain(context)})

        return handler


class Orders:
    """The orders that a test can send, by name."""

    def __init__(self) -> None:
        options = {"token": OPTIONS.get("token", "")}
        if OPTIONS.get("asksForTokens"):
            options["get_token"] = lambda: request_token("connection")
        delays = {"min_reconnect_delay": 0.05, "max_reconnect_delay": 0.5}
        self.client = centrifuge.Client(URL, Reporter("client"), use_protobuf=PROTOBUF, proxy=None, **delays, **options)

    async def connect(self) -> None:
        await self.client.connect()

    async def disconnect(self) -> None:
        await self.client.disconnect()

    async def subscribe(self, channel: str, options: dict[str, Any] | None = None) -> None:
        options = options or {}
        subscription = self.client.get_subscription(channel)
        if subscription is None:
            made = {"token": options.get("token", ""), "join_leave": options.get("joinLeave", False)}
            if "delta" in options:
                made["delta"] = centrifuge.DeltaType(options["delta"])
            if options.get("asksForTokens"):
                made["get_token"] = lambda name: request_token("subscription", name)
            delays = {"min_resubscribe_delay": 0.05, "max_resubscribe_delay": 0.5}
            reporter = Reporter("subscription", channel=channel)
            subscription = self.client.new_subscription(channel, reporter, **delays, **made)
        await subscription.subscribe()

    async def unsubscribe(self, channel: str) -> None:
        await self.client.get_subscription(channel).unsubscribe()

    async def publish(self, channel: str, data: Any) -> Any:
        return await self.client.publish(channel, pack(data))

    async def history(self, channel: str, options: dict[str, Any]) -> Any:
        since = centrifuge.StreamPosition(**options["since"]) if "since" in options else None
        return await self.client.history(channel, options.get("limit", 0), since, options.get("reverse", False))

    async def presence(self, channel: str) -> Any:
        return await self.client.presence(channel)

    async def presenceStats(self, channel: str) -> Any:
        return await self.client.presence_stats(channel)

    async def rpc(self, method: str, data: Any = None) -> Any:
        return await self.client.rpc(method, pack({} if data is None else data))

    async def batch(self, channel: str, messages: list[Any]) -> int:
        return len(await asyncio.gather(*[self.client.publish(channel, pack(data)) for data in messages]))

    async def token(self, token: str) -> None:
        WANTED.pop(0).set_result(token)


async def main() -> None:
    """Execute orders from standard input."""
    orders = Orders()

    async def execute(number: int, order: str, **parts: Any) -> None:
        try:
            report({"answer": number, "result": plain(await getattr(orders, order)(**parts))})
        except centrifuge.ReplyError as error:
            report({"answer": number, "error": {"code": error.code, "message": error.message}})

    report({"event": "ready"})
    tasks = set()
    while line := await asyncio.to_thread(sys.stdin.readline):
        tasks.add(asyncio.create_task(execute(**json.loads(line))))


asyncio.run(main())

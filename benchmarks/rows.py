"""The rows of the benchmark: the work that is measured, and the goals for the server under test."""

from goals import Goal, Row
from peers import LIMIT, SUBJECT

__all__ = ["ROWS"]

FANOUT = ("fanout", "--connections", "1000", "--path", "/ws?channel=foo")
"""
Arguments of the load generator. The peers' programs treat every client as a subscriber unless its path
is `/publish`.
"""

CENTRIFUGE_FANOUT = ("fanout", "--connections", "1000", "--centrifuge")

IN_FLIGHT = (("", "1"), ("-8", "8"), ("-32", "32"))

API = ("--connections", "50")

CONNECT = ("connect", "--connections", "10000", "--parallel", "64")

OPEN = ("--api-key", "bench", "--anonymous", "--channel-publish", "*")
"""Options for wsserver that do the same as the configuration of the peers with `Peer.channels`."""

MANY = ("--max-connections", "12000")

ROWS = (
    Row(
        "api-publish",
        "`POST /api/publish`, 50 keep-alive connections, one channel",
        ("api-publish", *API),
        (Goal(1.0, "centrifugo"),),
        (Goal(1.4, "centrifugo"),),
        needs="channels",
        options=OPEN,
    ),
    Row(
        "api-publish-channels",
        "`POST /api/publish`, 50 keep-alive connections, 10 000 channels in turn",
        ("api-publish", *API, "--channels", "10000"),
        (Goal(1.0, "centrifugo"),),
        (Goal(1.4, "centrifugo"),),
        needs="channels",
        options=OPEN,
    ),
    Row(
        "api-batch",
        "publications with `POST /api/batch`, 100 in a request, 50 keep-alive connections",
        ("api-batch", *API),
        (Goal(1.0, "centrifugo"),),
        (Goal(1.4, "centrifugo"),),
        needs="channels",
        options=OPEN,
    ),
    Row(
        "centrifuge-publish",
        "publishing over a Centrifuge connection to one subscriber, 1 in flight",
        ("centrifuge-publish",),
        (Goal(1.0, "centrifugo"),),
        (Goal(1.35, "centrifugo"),),
        needs="channels",
        options=OPEN,
    ),
    Row(
        "centrifuge-publish-64",
        "publishing over a Centrifuge connection to one subscriber, 64 in flight",
        ("centrifuge-publish", "--in-flight", "64"),
        (Goal(1.0, "centrifugo"),),
        (Goal(1.35, "centrifugo"),),
        needs="channels",
        options=OPEN,
    ),
    Row(
        "api-publish-redis",
        "`POST /api/publish` with `--redis`",
        ("api-publish", *API),
        (Goal(0.5, "api-publish"),),
        needs="redis",
        options=OPEN,
        only=(SUBJECT,),
    ),
    Row(
        "centrifuge-publish-redis",
        "publishing over a Centrifuge connection with `--redis`, 64 in flight",
        ("centrifuge-publish", "--in-flight", "64"),
        (Goal(0.5, "centrifuge-publish-64"),),
        needs="redis",
        options=OPEN,
        only=(SUBJECT,),
    ),
    Row(
        "publish-back",
        "own publication back to its publisher, pauses of 0 - 10 ms (p99)",
        ("publish-back",),
        (Goal(2000, "fixed"),),
        (Goal(1.0, "centrifugo", plus=100),),
        figure="p99_us",
        unit=" µs",
        less_is_better=True,
        needs="channels",
        options=OPEN,
    ),
    Row(
        "connect",
        "connecting and subscribing, 10 000 Centrifuge clients in a row",
        (*CONNECT, "--centrifuge"),
        (Goal(0.9, "centrifugo"),),
        (Goal(1.2, "centrifugo"),),
        needs="channels",
        options=(*OPEN, *MANY),
    ),
    Row(
        "closing",
        "CPU of closing a Centrifuge connection, with the closing handshake",
        (),
        (Goal(1.0, "centrifugo"),),
        figure="closing_cpu_us",
        unit=" µs",
        less_is_better=True,
        shares="connect",
        needs="channels",
    ),
    Row(
        "closing-lost",
        "CPU of closing a Centrifuge connection, with a reset by the client",
        (*CONNECT, "--centrifuge", "--reset"),
        (Goal(1.0, "centrifugo"),),
        figure="closing_cpu_us",
        unit=" µs",
        less_is_better=True,
        needs="channels",
        options=(*OPEN, *MANY),
    ),
    Row("connect-echo", "opening 10 000 echo connections in a row", CONNECT, options=MANY),
    Row(
        "closing-echo",
        "CPU of closing an echo connection, with the closing handshake",
        (),
        figure="closing_cpu_us",
        unit=" µs",
        less_is_better=True,
        shares="connect-echo",
    ),
    Row(
        "handshakes",
        "opening handshakes per second (browser-sized request)",
        ("handshakes",),
        (Goal(26_000, "fixed"), Goal(1.3, "gorilla"), Goal(34, "fixed", figure="cpu_us", unit=" µs")),
        (Goal(0.9, "bun"),),
    ),
    Row(
        "echo",
        "echo 64 B, 100 connections, 1 in flight",
        ("echo",),
        (Goal(1.0), Goal(0.9, "limit")),
        (Goal(1.05),),
    ),
    Row(
        "echo-1000",
        "echo 64 B, 1 000 connections, 1 in flight",
        ("echo", "--connections", "1000"),
        (Goal(1.0), Goal(0.9, "limit")),
        (Goal(1.05),),
    ),
    Row(
        "echo-10000",
        "echo 64 B, 10 000 connections, 1 in flight",
        ("echo", "--connections", "10000"),
        (Goal(1.0), Goal(0.9, "limit")),
        (Goal(1.05),),
        options=MANY,
    ),
    Row(
        "echo-16",
        "echo 64 B, 100 connections, 16 in flight",
        ("echo", "--in-flight", "16"),
        (Goal(1.0), Goal(0.9, "limit")),
        (Goal(1.05),),
    ),
    Row(
        "echo-16k",
        "echo 16 KiB, 50 connections",
        ("echo", "--size", "16384", "--connections", "50"),
        (Goal(0.95, "fastwebsockets"),),
        (Goal(1.0, "fastwebsockets"),),
    ),
    Row(
        "echo-1m",
        "echo 1 MiB binary, 8 connections",
        ("echo", "--size", "1048576", "--connections", "8", "--payload", "binary"),
        (Goal(0.95, "fastwebsockets"),),
        (Goal(1.0, "fastwebsockets"),),
        options=("--max-message-size", "2MiB"),
    ),
    Row(
        "utf8",
        "echo 64 B of mixed UTF-8 (Chinese text)",
        ("echo", "--payload", "utf8"),
        (Goal(1.0, "bun"),),
        (Goal(1.2, "bun"),),
        rivals="validates",
    ),
    Row(
        "command",
        "command reply (`time`) instead of echo",
        ("command", "--path", "/ws"),
        (Goal(1.0, "bun"),),
        (Goal(1.2, "bun"),),
        needs="commands",
    ),
    Row(
        "deflate",
        "permessage-deflate echo, 1 KiB JSON",
        ("compressed", "--size", "1024"),
        (Goal(1.0, "bun"),),
        (Goal(1.2, "bun"),),
        needs="compression",
        options=("--compression", "on"),
    ),
    Row(
        "tls",
        "echo 64 B over TLS",
        ("echo", "--tls"),
        (Goal(0.8, "bun"),),
        (Goal(1.2, "bun"),),
        needs="tls",
    ),
    Row(
        "memory",
        "memory for each idle connection (Pss)",
        ("idle",),
        (Goal(2.4, "fixed"),),
        (Goal(1.9, "fixed"),),
        figure="kilobytes",
        unit=" kB",
        less_is_better=True,
        measure="memory",
        without=(LIMIT,),
        options=MANY,
    ),
    Row(
        "memory-raw",
        "memory for each idle raw subscriber (Pss)",
        ("idle", "--path", "/ws?channel=foo"),
        (Goal(3.2, "fixed"),),
        (Goal(2.8, "fixed"),),
        figure="kilobytes",
        unit=" kB",
        less_is_better=True,
        measure="memory",
        options=MANY,
        only=(SUBJECT,),
    ),
    Row(
        "memory-centrifuge",
        "memory for each idle Centrifuge subscriber (Pss)",
        ("idle", "--centrifuge"),
        (Goal(3.2, "fixed"),),
        (Goal(2.8, "fixed"),),
        figure="kilobytes",
        unit=" kB",
        less_is_better=True,
        measure="memory",
        needs="channels",
        options=(*OPEN, *MANY),
    ),
    Row(
        "idle",
        "CPU of 10 000 idle connections with pings every 25 s",
        ("idle",),
        (Goal(10, "fixed"),),
        figure="percent",
        unit=" %",
        less_is_better=True,
        measure="idle",
        needs="ping",
        options=MANY,
        only=(SUBJECT, "autobahn"),
    ),
    Row(
        "hostile",
        "slowdown of 100 connections (p99) by another one that floods the server with 6-byte frames",
        ("hostile",),
        (Goal(3, "fixed"),),
        figure="slowdown",
        unit=" x",
        less_is_better=True,
    ),
    *(
        Row(
            "fanout" + suffix,
            f"fan-out of 64 B to 1 000 subscribers, {in_flight} in flight",
            (*FANOUT, "--in-flight", in_flight),
            (Goal(1.0, "bun"),),
            needs="fanout",
        )
        for suffix, in_flight in IN_FLIGHT
    ),
    *(
        Row(
            "fanout-centrifuge" + suffix,
            f"fan-out to 1 000 Centrifuge subscribers (JSON), {in_flight} in flight",
            (*CENTRIFUGE_FANOUT, "--in-flight", in_flight),
            (Goal(1.5, "centrifugo"),),
            needs="channels",
            options=OPEN,
        )
        for suffix, in_flight in IN_FLIGHT
    ),
    *(
        Row(
            "fanout-protobuf" + suffix,
            f"fan-out to 1 000 Centrifuge subscribers (Protobuf), {in_flight} in flight",
            (*CENTRIFUGE_FANOUT, "--protobuf", "--in-flight", in_flight),
            (Goal(1.5, "centrifugo"), Goal(1.0, "fanout-centrifuge" + suffix)),
            needs="channels",
            options=OPEN,
        )
        for suffix, in_flight in IN_FLIGHT
    ),
    *(
        Row(
            "fanout-sse" + suffix,
            f"fan-out of 64 B to 1 000 event streams, {in_flight} in flight",
            ("fanout", "--connections", "1000", "--path", "/sse?channel=foo", "--sse", "--in-flight", in_flight),
            (Goal(0.8, "fanout" + suffix),),
            needs="fanout",
            only=(SUBJECT,),
        )
        for suffix, in_flight in IN_FLIGHT
    ),
    Row(
        "fanout-redis",
        "fan-out, 8 in flight, published with Redis's `PUBLISH`",
        (*FANOUT, "--in-flight", "8", "--redis", "{redis}"),
        (Goal(0.9, "fanout-8"),),
        needs="redis",
        only=(SUBJECT,),
    ),
    Row(
        "fanout-channels",
        "fan-out to 10 000 channels in turn, one subscriber each, 32 in flight",
        (
            *("fanout", "--channels", "10000", "--connections", "10000", "--in-flight", "32"),
            *("--path", "/ws?channel=c", "--publish", "/publish-in-turn"),
        ),
        needs="fanout",
        options=MANY,
        only=(SUBJECT,),
    ),
    Row(
        "redis-channels",
        "Redis's `PUBLISH` to 10 000 channels in turn, one subscriber each",
        (
            *("fanout", "--channels", "10000", "--connections", "10000", "--in-flight", "256"),
            *("--path", "/ws?channel=c", "--redis", "{redis}"),
        ),
        (Goal(100_000, "fixed"),),
        needs="redis",
        options=MANY,
        only=(SUBJECT,),
    ),
    *(
        Row(
            name,
            f"latency of an echo, 1 000 connections, half the rate that the slower server reaches ({title})",
            ("echo", "--connections", "1000"),
            (Goal(1.0, "bun"),),
            figure=figure,
            unit=" µs",
            less_is_better=True,
            measure="latency",
            shares="" if name == "latency" else "latency",
            only=(SUBJECT, "bun"),
        )
        for name, title, figure in (
            ("latency", "p50", "p50_us"),
            ("latency-p99", "p99", "p99_us"),
            ("latency-p999", "p99.9", "p999_us"),
        )
    ),
    Row(
        "start",
        "time from the start of the process until it listens",
        (),
        (Goal(0.5, "fixed"),),
        (Goal(0.3, "fixed"),),
        figure="seconds",
        unit=" s",
        less_is_better=True,
        measure="start",
        without=(LIMIT,),
    ),
)

"""The servers that are compared: how each is started, and what it supports."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["BY_NAME", "FOLDER", "LIMIT", "PEERS", "SUBJECT", "Peer"]

FOLDER = Path(__file__).resolve().parent
SUBJECT = "wsserver"
LIMIT = "c"


@dataclass(frozen=True)
class Peer:
    """A server to measure."""

    name: str
    title: str
    command: tuple[str, ...]
    """
    Command line. {bench} is build/bench, {servers} the folder of the peers' programs, {python} the Python of the peers,
    {port} the port, {here} the folder of programs that wsserver is installed in. Options that a row needs are inserted
    before the last word, the port. Empty for a peer that is not measured in the echo rows.
    """

    can: frozenset[str] = frozenset()
    """
    Capabilities. compression, tls, ping: the server has that option. validates: it checks UTF-8. python: its
    application is written in Python. commands: it answers the text `time` with the time.
    """

    packages: tuple[str, ...] = ()
    """
    Packages with the versions to install, as pip, npm or Go write them. For the peers of kind `go` and `cargo`,
    servers/go/go.sum and servers/rust/Cargo.lock pin the versions, and this is the name of the package.
    """

    kind: str = "python"
    """
    How it is installed: python, npm (runs in Node.js), node (a runtime from npm), go (a program of ours), gomodule (the
    package is the program), cargo, c, nginx, or here (the server under test, which is already installed).
    """

    fanout: tuple[str, ...] = ()
    """Command line in the fan-out rows; empty for a peer that is not measured in them."""

    channels: tuple[str, ...] = ()
    """
    Command line in the rows that use Centrifugo's HTTP API, with the key `bench`, and the Centrifuge protocol, at
    `/connection/websocket`. Clients without a token may subscribe and publish to every channel. Each channel has a
    history of 100 publications and one minute. Empty for a peer that is not measured in these rows.
    """


def _python(name: str, title: str, script: str, packages: str, can: str, *, fanout: str = "") -> Peer:
    file, *options = script.split()
    command = ("{python}", f"{{servers}}/{file}", *options, "{port}")
    more = ("{python}", f"{{servers}}/{fanout}", "{port}") if fanout else ()
    return Peer(name, title, command, frozenset(can.split()) | {"python"}, tuple(packages.split()), fanout=more)


def _go(name: str, title: str, package: str, can: str, *, fanout: str = "") -> Peer:
    more = (f"{{bench}}/{fanout}", "{port}") if fanout else ()
    return Peer(name, title, (f"{{bench}}/echo_{name}", "{port}"), frozenset(can.split()), (package,), "go", more)


def _rust(name: str, title: str, package: str, program: str) -> Peer:
    command = (f"{{bench}}/cargo/release/{program}", "{port}")
    return Peer(name, title, command, frozenset(["validates"]), (package,), "cargo")


ALL = "compression tls ping validates"
UVLOOP = "uvloop==0.23.0"
BUN = "{bench}/node/node_modules/bun/bin/bun.exe"
DENO = "{bench}/node/node_modules/deno/deno"

PEERS = (
    Peer(LIMIT, "a minimal C epoll echo", ("{bench}/echo", "{port}"), kind="c", fanout=("{bench}/echo", "{port}")),
    Peer(
        SUBJECT,
        "**wsserver**",
        ("{here}/wsserver", "serve"),
        frozenset([*ALL.split(), "python", "commands"]),
        kind="here",
        channels=("{here}/wsserver", "serve"),
        fanout=("{here}/python", "{servers}/fanout_wsserver.py", "{port}"),
    ),
    Peer(
        "centrifugo",
        "Centrifugo (Go)",
        (),
        packages=("github.com/centrifugal/centrifugo/v6@v6.9.1",),
        kind="gomodule",
        channels=("{bench}/centrifugo", "--config", "{servers}/centrifugo.json", "--http_server.port", "{port}"),
    ),
    _rust("fastwebsockets", "Rust with fastwebsockets", "fastwebsockets", "echo_fastwebsockets"),
    _rust("tungstenite", "Rust with tokio-tungstenite", "tokio-tungstenite", "echo_tungstenite"),
    Peer(
        "bun",
        "Bun",
        (BUN, "{servers}/echo_bun.js", "{port}"),
        frozenset([*ALL.split(), "commands"]),
        ("bun@1.4.5",),
        "node",
        (BUN, "{servers}/fanout_bun.js", "{port}"),
    ),
    Peer(
        "deno",
        "Deno",
        (DENO, "run", "--allow-net", "--allow-read", "{servers}/echo_deno.js", "{port}"),
        frozenset(["tls", "validates"]),
        ("deno@2.9.6",),
        "node",
    ),
    _go(
        "gorilla",
        "Go with gorilla/websocket",
        "github.com/gorilla/websocket",
        "compression tls",
        fanout="fanout_gorilla",
    ),
    _go("coder", "Go with coder/websocket", "github.com/coder/websocket", "compression tls"),
    _go("nbio", "Go with nbio", "github.com/lesismal/nbio", "compression validates"),
    Peer(
        "ws",
        "Node.js with ws",
        ("node", "{servers}/echo_ws.js", "{port}"),
        frozenset(ALL.split()),
        ("ws@8.23.0", "bufferutil@4.1.0"),
        "npm",
        ("node", "{servers}/fanout_ws.js", "{port}"),
    ),
    _python(
        "autobahn",
        "plain Autobahn on Twisted",
        "echo_autobahn.py",
        "autobahn[twisted]==26.10.2 twisted[tls]==26.10.0",
        ALL,
        fanout="fanout_autobahn.py",
    ),
    _python(
        "picows",
        "picows on uvloop",
        "echo_picows.py",
        f"picows==2.3.1 {UVLOOP} aiofastnet==1.2.0",
        "tls ping",
        fanout="fanout_picows.py",
    ),
    _python("granian", "granian on uvloop", "echo_granian.py", f"granian==2.8.9 {UVLOOP}", "tls validates"),
    _python("websockets", "websockets on asyncio", "echo_websockets.py", "websockets==17.4", ALL),
    _python(
        "websockets-uvloop",
        "websockets on uvloop",
        "echo_websockets.py --uvloop",
        f"websockets==17.4 {UVLOOP}",
        ALL,
        fanout="fanout_websockets.py",
    ),
    _python("aiohttp", "aiohttp on uvloop", "echo_aiohttp.py", f"aiohttp==3.14.5 {UVLOOP}", ALL),
    _python("tornado", "Tornado", "echo_tornado.py", "tornado==6.6.1", ALL),
    _python(
        "uvicorn",
        "uvicorn on uvloop",
        "echo_uvicorn.py",
        f"uvicorn==0.54.0 websockets==17.4 httptools==0.9.0 {UVLOOP}",
        ALL,
    ),
    _python(
        "uvicorn-wsproto",
        "uvicorn with wsproto",
        "echo_uvicorn.py --wsproto",
        f"uvicorn==0.54.0 wsproto==1.3.2 httptools==0.9.0 {UVLOOP}",
        ALL,
    ),
    _python(
        "socketify",
        "uWebSockets through socketify",
        "echo_socketify.py",
        "socketify==0.0.31",
        ALL,
        fanout="fanout_socketify.py",
    ),
    Peer(
        "nchan",
        "nginx with nchan",
        (),
        kind="nginx",
        fanout=("{here}/python", "{servers}/fanout_nchan.py", "{port}"),
    ),
)

BY_NAME = {peer.name: peer for peer in PEERS}

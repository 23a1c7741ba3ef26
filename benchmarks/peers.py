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
    Command line. {bench} is build/bench, {servers} the folder of the peers' programs, {port} the port, {here} the
    folder of programs that wsserver is installed in. Empty for a peer that is measured in the fan-out rows only.
    """

    can: frozenset[str] = frozenset()
    """
    Capabilities. compression, tls, ping: the server has that option. validates: it checks UTF-8. python: its
    application is written in Python. commands: it answers the text `time` with the time.
    """

    packages: tuple[str, ...] = ()
    """Packages to install with pip or npm. The version of the first package is reported as the peer's version."""

    kind: str = "python"
    """How it is installed: python, node, go, c, nginx, or here (the server under test, which is already installed)."""

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
    python = "{bench}/venv/bin/python"
    command = (python, f"{{servers}}/{file}", "{port}", *options)
    more = (python, f"{{servers}}/{fanout}", "{port}") if fanout else ()
    return Peer(name, title, command, frozenset(can.split()) | {"python"}, tuple(packages.split()), fanout=more)


ALL = "compression tls ping validates"

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
    _python(
        "autobahn",
        "plain Autobahn on Twisted",
        "echo_autobahn.py",
        "autobahn[twisted] twisted[tls]",
        ALL,
        fanout="fanout_autobahn.py",
    ),
    _python(
        "picows",
        "picows on uvloop",
        "echo_picows.py",
        "picows uvloop aiofastnet",
        "tls ping",
        fanout="fanout_picows.py",
    ),
    _python("websockets", "websockets on asyncio", "echo_websockets.py", "websockets", ALL),
    _python(
        "websockets-uvloop",
        "websockets on uvloop",
        "echo_websockets.py --uvloop",
        "websockets uvloop",
        ALL,
        fanout="fanout_websockets.py",
    ),
    _python("aiohttp", "aiohttp on uvloop", "echo_aiohttp.py", "aiohttp uvloop", ALL),
    _python("tornado", "Tornado", "echo_tornado.py", "tornado", ALL),
    _python("uvicorn", "uvicorn on uvloop", "echo_uvicorn.py", "uvicorn websockets httptools uvloop", ALL),
    _python(
        "uvicorn-wsproto", "uvicorn with wsproto", "echo_uvicorn.py --wsproto", "uvicorn wsproto httptools uvloop", ALL
    ),
    _python(
        "socketify",
        "uWebSockets through socketify",
        "echo_socketify.py",
        "socketify",
        ALL,
        fanout="fanout_socketify.py",
    ),
    Peer(
        "ws",
        "Node.js with ws",
        ("node", "{servers}/echo_ws.js", "{port}"),
        frozenset(ALL.split()),
        ("ws", "bufferutil"),
        "node",
        ("node", "{servers}/fanout_ws.js", "{port}"),
    ),
    Peer(
        "gorilla",
        "Go with gorilla/websocket",
        ("{bench}/echo_gorilla",),
        frozenset(["compression", "tls"]),
        kind="go",
        fanout=("{bench}/fanout_gorilla",),
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

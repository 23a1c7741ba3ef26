"""`wsserver replay FILE...`: a mock server that sends what a recorded server has sent."""

import argparse
import sys
from urllib.parse import quote

from wsserver.endpoints.recordings import read_files
from wsserver.errors import SettingError

__all__ = ["add_arguments", "run"]

MAX_SPEED = 1000.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `wsserver replay` to a parser."""
    parser.add_argument(
        "file", metavar="FILE", nargs="+", help="a recording: /tap/SECRET?format=jsonl, or a HAR of Chrome or /tap/"
    )
    parser.add_argument(
        "--speed",
        type=_a_speed,
        default=1.0,
        metavar="N",
        help="how many times faster than recorded; 0 sends each message as soon as the client has sent those before it "
        "[default: 1]",
    )
    parser.add_argument(
        "--path", type=_a_path, metavar="PATH", help="the path for all recordings [default: the recorded paths]"
    )
    parser.add_argument("--port", default="8080", metavar="PORT", help="the TCP port to listen on [default: 8080]")
    parser.add_argument(
        "--interface", default="127.0.0.1", metavar="ADDRESS", help="the address to listen on [default: 127.0.0.1]"
    )


def _a_speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not 0 <= speed <= MAX_SPEED:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to {MAX_SPEED:.0f}, not {text!r}")
    return speed


def _a_path(text: str) -> str:
    if not text.startswith("/"):
        raise argparse.ArgumentTypeError(f"expected a path such as /echo, not {text!r}")
    return text


def run(chosen: argparse.Namespace) -> None:
    """
    Serve the recordings until a signal ends the process.

    Raises:
        RecordingError: a file is not a recording.
        SettingError: the port, the address or the path is invalid.
        ListenError: the server cannot listen.
    """
    recordings = read_files(chosen.file)
    from twisted.internet import reactor  # noqa: PLC0415 (importing it installs it)
    from twisted.logger import globalLogBeginner  # noqa: PLC0415 (slow to import)

    from wsserver.config.settings import Settings  # noqa: PLC0415
    from wsserver.endpoints.replay import replay_endpoints  # noqa: PLC0415
    from wsserver.listening.ports import authority  # noqa: PLC0415
    from wsserver.logging import LogSettings, make_observer  # noqa: PLC0415
    from wsserver.service import WebSocketService  # noqa: PLC0415
    from wsserver.wire.timers import use_monotonic_clock  # noqa: PLC0415

    use_monotonic_clock(reactor)
    globalLogBeginner.beginLoggingTo([make_observer(sys.stderr, LogSettings())], redirectStandardIO=False)
    settings = Settings(port=chosen.port, interface=chosen.interface)
    try:
        endpoints = replay_endpoints(recordings, reactor, speed=chosen.speed, path=chosen.path)
        service = WebSocketService(settings, reactor, endpoints=endpoints)
    except ValueError as error:
        raise SettingError("--path", str(error)) from None
    service.privilegedStartService()
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    where = authority(service.ports[0])
    for path in endpoints:
        print(f"replaying at ws://{where}{quote(path)}", flush=True)
    reactor.run()

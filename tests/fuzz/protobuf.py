"""
Fuzz the decoder of the Centrifuge protocol's Protobuf form: the compiled Protobuf library against the one in Python.

    python tests/fuzz/protobuf.py [--examples N] [--seed N]

Both run in a process of their own, which decodes the same random frames: valid ones, changed ones, and noise. The one
with the compiled library runs with the memory allocator of AddressSanitizer, if GCC has it. The exit code is 1 if the
two differ, or if a process dies.
"""

import argparse
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Under pytest, pyproject.toml adds this path.
sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))

import msgspec
from protobuf_messages import encode_commands

BATCH = 500
"""Number of frames that a process decodes at a time."""

NAMES = ("", "c", "chat:1", "ü", "x" * 300)
NUMBERS = (0, 1, 127, 128, 2**31 - 1)
FIELDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "connect": {"token": NAMES, "data": (b"{}", b"\xff"), "name": NAMES, "version": NAMES},
    "subscribe": {
        "channel": NAMES,
        "token": NAMES,
        "recover": (True,),
        "epoch": NAMES,
        "offset": (*NUMBERS, 2**64 - 1),
        "data": (b"1",),
        "positioned": (True,),
        "recoverable": (True,),
        "join_leave": (True,),
        "flag": (0, 1, 2**63 - 1, -1),
        "delta": ("fossil",),
        "tf": ({"key": "a", "cmp": "eq", "val": "b"}, {"op": "and", "nodes": [{"cmp": "ex", "key": "k"}, {}]}),
    },
    "unsubscribe": {"channel": NAMES},
    "publish": {"channel": NAMES, "data": (b"", b"{}", b"\x00\xff" * 70)},
    "presence": {"channel": NAMES},
    "presence_stats": {"channel": NAMES},
    "history": {
        "channel": NAMES,
        "limit": (*NUMBERS, -1),
        "since": ({}, {"offset": 5, "epoch": "e"}),
        "reverse": (True,),
    },
    "rpc": {"method": NAMES, "data": (b"1",)},
    "send": {"data": (b"1",)},
    "refresh": {"token": NAMES},
    "sub_refresh": {"channel": NAMES, "token": NAMES},
}
"""Method -> field -> values."""


def random_command(rng: random.Random) -> dict[str, Any]:
    """Return a command with any of the fields of one or two methods, or a pong."""
    command: dict[str, Any] = {"id": rng.choice((*NUMBERS, 2**32 - 1))} if rng.random() < 0.95 else {}
    for method in rng.sample(list(FIELDS), rng.choice((0, 1, 1, 1, 1, 2))):
        fields = FIELDS[method]
        command[method] = {name: rng.choice(fields[name]) for name in fields if rng.random() < 0.6}
    if "connect" in command and rng.random() < 0.3:
        command["connect"]["subs"] = {name: {"recover": True} for name in rng.sample(NAMES, 2)}
    return command


def random_frame(rng: random.Random) -> bytes:
    """Return a frame: commands, often changed, or noise."""
    if rng.random() < 0.05:
        return rng.randbytes(rng.randrange(60))
    frame = bytearray(encode_commands(*(random_command(rng) for _ in range(rng.choice((1, 1, 2, 3))))))
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        start = rng.randrange(len(frame) + 1)
        changed = rng.randbytes(rng.choice((0, 1, 1, 2, 10)))
        frame[start : start + rng.choice((0, 1, 1, 1, 3))] = changed
    if rng.random() < 0.1:
        del frame[rng.randrange(len(frame) + 1) :]
    return bytes(frame)


class Decoder:
    """
    A process that decodes frames.

    Args:
        implementation: `upb` for the compiled library, `python` for the other.
        sanitized: whether to run with the memory allocator of AddressSanitizer.
    """

    def __init__(self, implementation: str, *, sanitized: bool = False) -> None:
        environment = os.environ | {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
        if sanitized:
            environment |= {
                "LD_PRELOAD": _asan(),
                "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=16",
                "PYTHONMALLOC": "malloc",
            }
        command = [sys.executable, __file__, "--child", implementation]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def decode(self, frames: list[bytes]) -> Iterator[str]:
        """Return a description of the commands of each frame; fewer than there are frames if the process has died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(frame.hex() or "-" for frame in frames) + "\n")
        self._process.stdin.flush()
        for _ in frames:
            line = self._process.stdout.readline()
            if not line:
                return
            yield line

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


def _asan() -> str:
    found = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def child(implementation: str) -> int:
    """Decode the frames on standard input."""
    from google.protobuf.internal import api_implementation

    from wsserver.endpoints.centrifuge.protobuf_codec import PROTOBUF

    assert api_implementation.Type() == implementation
    for line in sys.stdin:
        for frame in line.split():
            commands = PROTOBUF.parse(b"" if frame == "-" else bytes.fromhex(frame))
            print([(command.id, _describe(command.request), command.size) for command in commands])
        sys.stdout.flush()
    return 0


def _describe(request: Any) -> Any:
    """
    Return a request as it is printed: a raw value as its bytes, and without `subs`.

    The compiled library skips an entry of a map with an unknown field; the one in Python does not.
    """
    fields = msgspec.structs.asdict(request) if isinstance(request, msgspec.Struct) else request
    if not isinstance(fields, dict):
        return fields
    return type(request).__name__, {
        name: bytes(value) if isinstance(value, msgspec.Raw) else value
        for name, value in fields.items()
        if name != "subs"
    }


def _is_stricter(compiled: str, python: str) -> bool:
    """
    Return whether the compiled library only refuses a command that the one in Python accepts.

    It refuses the numbers of fields with more than 32 bits, as the specification demands, and some overlong varints.
    """
    before, refused, _ = compiled.partition("(0, Disconnect(code=3501, reason='bad request: expected a command of the")
    return bool(refused) and python.startswith(before) and "Protobuf'), 0)]" in compiled


def compare(examples: int, seed: int, *, sanitized: bool) -> str:
    """Decode random frames in both processes; return the first difference, or an empty text."""
    rng, done = random.Random(seed), 0
    compiled, python = Decoder("upb", sanitized=sanitized), Decoder("python")
    try:
        while done < examples:
            frames = [random_frame(rng) for _ in range(min(BATCH, examples - done))]
            found, expected = list(compiled.decode(frames)), list(python.decode(frames))
            if len(found) < len(frames) or len(expected) < len(frames):
                return f"a process has died at one of the frames {[frame.hex() for frame in frames]}"
            for frame, one, other in zip(frames, found, expected, strict=True):
                if one != other and not _is_stricter(one, other):
                    return f"frame {frame.hex()}: compiled {one}Python {other}"
            done += len(frames)
        return ""
    finally:
        compiled.stop()
        python.stop()


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--examples", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0, help="default: a new one for each run")
    parser.add_argument("--child", choices=["upb", "python"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.child)
    seed = options.seed or random.SystemRandom().randrange(1, 2**31)
    print(f"{options.examples} frames, seed {seed}", flush=True)
    difference = compare(options.examples, seed, sanitized=True)
    print(difference or "no difference")
    return int(bool(difference))


if __name__ == "__main__":
    sys.exit(main())

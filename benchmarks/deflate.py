"""
Measure compression libraries: time and compressed size for a JSON message of 1 KiB, and memory per connection.

    python benchmarks/deflate.py
"""

import subprocess
import sys
import time
import zlib
from pathlib import Path
from random import Random

from wsserver.wire.deflate import LIBRARIES, Deflate, Library, Terms

LIMIT = 1 << 20
PAIRS = [("isal", "zlib-ng"), ("isal", "zlib"), ("isal", "isal"), ("zlib-ng", "zlib-ng"), ("zlib", "zlib")]
CONNECTIONS = 1000


def messages() -> list[bytes]:
    """Return 64 JSON messages of 1 KiB: as in real messages, names repeat and values differ."""
    rng, made = Random(1), []  # noqa: S311
    for _ in range(64):
        text = f'{{"id":{rng.getrandbits(31)},"items":['
        while len(text) < 1024 - 100:
            price, is_open = f"{rng.randrange(1000)}.{rng.randrange(100):02}", rng.choice(("true", "false"))
            text += f'{{"name":"n{rng.getrandbits(31):x}","price":{price},"open":{is_open}}},'
        text += '0],"note":"'
        made.append((text + "".join(chr(97 + rng.randrange(26)) for _ in range(1022 - len(text))) + '"}').encode())
    return made


def connection(deflater: str, inflater: str, takeover: bool, bits: int = 15) -> Deflate:
    """Return the compression state of one connection; with the name `server`, the server chooses the library."""
    terms = Terms(takeover, takeover, bits, bits)
    return Deflate(terms, deflater=LIBRARIES.get(deflater), inflater=LIBRARIES.get(inflater))


def sent(takeover: bool, bits: int = 15) -> list[bytes]:
    """Return the messages as compressed by a client with zlib."""
    client = connection("zlib", "zlib", takeover, bits)
    client._deflater = Library("zlib", zlib, 6)  # noqa: SLF001
    return [client.deflate(message) for message in messages()]


def speed(deflater: str, inflater: str, takeover: bool) -> tuple[float, float, int]:
    """Return the microseconds to inflate and to compress a message, each the best of five, and its compressed size."""
    plain, packed, times = messages(), sent(takeover), []
    for _ in range(5):
        inflating = compressing = size = 0.0
        for _ in range(30):
            one = connection(deflater, inflater, takeover)
            at = time.process_time()
            for payload in packed:
                one.inflate(payload, LIMIT)
            inflating += time.process_time() - at
            at = time.process_time()
            for message in plain:
                size += len(one.deflate(message))
            compressing += time.process_time() - at
        times.append((inflating, compressing))
    count = 30 * len(plain)
    return min(t for t, _ in times) / count * 1e6, min(t for _, t in times) / count * 1e6, round(size / count)


def memory(deflater: str, inflater: str, takeover: bool, bits: int, count: int) -> float:
    """Return the resident memory of a connection in KiB after `count` messages in each direction."""
    packed, kept = sent(takeover, bits)[:count], []

    def connect() -> None:
        one = connection(deflater, inflater, takeover, bits)
        for payload in packed:
            one.deflate(one.inflate(payload, LIMIT))
        kept.append(one)

    for _ in range(50):
        connect()
    before = _resident()
    for _ in range(CONNECTIONS):
        connect()
    return (_resident() - before) / CONNECTIONS


def _resident() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0])


def main() -> None:
    """Print the tables of docs/explanation/performance.md."""
    if sys.argv[1:]:
        deflater, inflater, takeover, bits, count = sys.argv[1:]
        print(memory(deflater, inflater, takeover == "on", int(bits), int(count)))
        return
    pairs = [pair for pair in PAIRS if set(pair) <= set(LIBRARIES)]
    print("| compress/inflate | context takeover | inflate | compress | becomes |\n|---|---|---|---|---|")
    for pair in pairs:
        for takeover in (False, True):
            inflating, compressing, size = speed(*pair, takeover)
            name = "/".join(pair)
            print(f"| {name} | {'on' if takeover else 'off'} | {inflating:.1f} us | {compressing:.1f} us | {size} B |")
    cases = [("off", "15", "64")]
    cases += [("on", bits, count) for bits in ("15", "13", "12", "9") for count in ("1", "64")]
    print("\n| compress/inflate | " + " | ".join(f"{t}, {bits} bits, {n} messages" for t, bits, n in cases))
    print("|---|" + "---|" * len(cases))
    for pair in [("server", "server"), *pairs]:
        # One process per case: memory freed by one case would hide the allocations of the next.
        commands = [[sys.executable, __file__, *pair, *case] for case in cases]
        outputs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for command in commands]  # noqa: S603
        print(f"| {'/'.join(pair)} | " + " | ".join(f"{float(text):.1f} KiB" for text in outputs) + " |")


if __name__ == "__main__":
    main()

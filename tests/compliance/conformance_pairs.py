"""Which cases of Autobahn's fuzzing server send the same as ours, and where the verdicts disagree."""

from collections.abc import Mapping
from typing import Any

__all__ = ["AUTOBAHN_CASES", "PAIRS", "find_disagreements"]

_SIZES = (0, 125, 126, 127, 128, 65535, 65536)
_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)

PAIRS: Mapping[str, str] = {
    **{f"framing.text-{size}": f"1.1.{at}" for at, size in enumerate(_SIZES, 1)},
    "framing.chopped-997": "1.1.8",
    **{f"framing.binary-{size}": f"1.2.{at}" for at, size in enumerate(_SIZES, 1)},
    "framing.rsv-001": "3.1",
    "framing.rsv-after-message": "3.2",
    "framing.rsv-011": "3.3",
    "framing.rsv-100": "3.4",
    "framing.rsv-101": "3.5",
    "framing.rsv-ping": "3.6",
    "framing.opcode-3": "4.1.1",
    "framing.opcode-4": "4.1.2",
    "framing.opcode-7": "4.1.5",
    "framing.opcode-b": "4.2.1",
    "framing.opcode-c": "4.2.2",
    "framing.opcode-f": "4.2.5",
    "framing.ping-length-126": "2.5",
    "pings.empty": "2.1",
    "pings.text": "2.2",
    "pings.binary": "2.3",
    "pings.length-125": "2.4",
    "pings.chopped": "2.6",
    "pings.unsolicited-pong-empty": "2.7",
    "pings.unsolicited-pong": "2.9",
    "pings.ten": "2.10",
    "fragmentation.fragmented-ping": "5.1",
    "fragmentation.fragmented-pong": "5.2",
    "fragmentation.two": "5.3",
    "fragmentation.chopped": "5.5",
    "fragmentation.ping-between": "5.6",
    "fragmentation.ping-between-chopped": "5.8",
    "fragmentation.continuation-first": "5.9",
    "fragmentation.continuation-first-open": "5.12",
    "fragmentation.continuation-after": "5.15",
    "fragmentation.text-within": "5.18",
    "fragmentation.pings-between": "5.19",
    "fragmentation.all-empty": "6.1.2",
    "text.split-by-byte": "6.2.3",
    "text.bad-at-once": "6.4.1",
    "text.nul": "6.7.1",
    "text.boundaries": "6.9.3",
    "text.last": "6.9.4",
    "text.around-surrogates": "6.11.1",
    "text.replacement": "6.11.3",
    "text.noncharacters": "6.22.1",
    "text.bad-five-bytes": "6.8.1",
    "text.bad-too-large": "6.11.5",
    "text.bad-lone-continuation": "6.12.1",
    "text.bad-missing-continuation": "6.13.1",
    "text.bad-cut-off-two": "6.14.6",
    "text.bad-cut-off-three": "6.14.7",
    "text.bad-cut-off-four": "6.14.8",
    "text.bad-byte-fe": "6.16.1",
    "text.bad-byte-ff": "6.16.2",
    "text.bad-overlong-two": "6.17.1",
    "text.bad-overlong-three": "6.17.2",
    "text.bad-overlong-four": "6.17.3",
    "text.bad-overlong-nul": "6.19.1",
    "text.bad-surrogate": "6.20.1",
    "text.bad-surrogate-pair": "6.21.1",
    "closing.after-message": "7.1.1",
    "closing.twice": "7.1.2",
    "closing.ping-after": "7.1.3",
    "closing.message-after": "7.1.4",
    "fragmentation.close-between": "7.1.5",
    "closing.empty": "7.3.1",
    "closing.bad-length-1": "7.3.2",
    "closing.reason": "7.3.4",
    "closing.reason-123": "7.3.5",
    "closing.bad-length-126": "7.3.6",
    "closing.bad-reason": "7.5.1",
    **{f"closing.code-{code}": f"7.7.{at}" for at, code in enumerate(_CODES, 1) if code != 1010},
    "closing.bad-code-0": "7.9.1",
    "closing.bad-code-999": "7.9.2",
    "closing.undefined-code-1004": "7.9.3",
    "closing.bad-code-1005": "7.9.4",
    "closing.bad-code-1006": "7.9.5",
    "closing.undefined-code-1016": "7.9.6",
    "closing.undefined-code-1100": "7.9.7",
    "closing.undefined-code-2000": "7.9.8",
    "closing.undefined-code-2999": "7.9.9",
    "closing.undefined-code-5000": "7.13.1",
    "closing.undefined-code-65535": "7.13.2",
    "limits.text-256k": "9.1.2",
    "limits.text-1m": "9.1.3",
    "limits.binary-1m": "9.2.3",
    "compression.text": "12.1.1",
    "compression.takeover": "13.1.1",
}
"""Our case -> the case of Autobahn's fuzzing server that sends the same, or the most similar frames."""

AUTOBAHN_CASES = tuple(PAIRS.values())


def find_disagreements(record: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, tuple[str, str]]]:
    """
    Return where a verdict of ours differs from that of Autobahn's fuzzing server.

    Args:
        record: name of a client -> its verdicts that are not `pass`, as in clients/verdicts.json.

    Returns:
        Our case and the other one -> name of a client -> our verdict and the other one.
    """
    found: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    for name, verdicts in record.items():
        for case, other in PAIRS.items():
            both = verdicts["own"].get(case, "pass"), verdicts["autobahn"].get(other, "pass")
            if both[0] != both[1]:
                found.setdefault((case, other), {})[name] = both
    return found

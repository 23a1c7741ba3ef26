"""Write replies in one spelling, without the values that differ from run to run."""

import itertools
import json
import re
from collections.abc import Mapping

import msgspec

__all__ = ["canonical", "close", "collapse", "settle"]

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_RAW = frozenset({"data", "conn_info", "chan_info"})
"""Fields whose value is the text that a client or the backend wrote."""

_SURROGATE = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89a-fA-F][0-9a-fA-F]{2})")
_REPETITION = re.compile(r"(.{1,2}?)\1{39,}")
_ELEMENTS = {"publications": "pub"}
"""Name of an array -> the name of its elements elsewhere."""
_LEFT_OUT = frozenset({("pub", "epoch"), ("connect", "session"), ("connect", "node")})
"""(object, field) pairs that are left out. Centrifugo sends this field with its memory engine, but not with Redis."""


def canonical(text: str, clients: Mapping[str, str]) -> str:
    """
    Return a reply with sorted fields, and placeholders for what differs from run to run.

    The text of the fields in `_RAW` stays as it is. The text of an error is cut at its first colon: this server adds
    the reason there.

    Args:
        text: the reply.
        clients: client ID -> name of the client.
    """
    for client, name in clients.items():
        text = text.replace(client, f"<{name}>")
    try:
        # msgspec refuses half a surrogate pair.
        masked = _SURROGATE.sub(r"\1\\u0000\2", text)
        written = _write(msgspec.Raw(masked.encode("utf-8")), "").replace("\\u0000d", "\\ud")
    except (msgspec.DecodeError, RecursionError):
        written = re.sub(',?"epoch":"[^"]*"', "", text)
    written = written.replace("\0", "${NUL}").replace("\r", "${CR}").replace("\n", "${LF}")
    return _REPETITION.sub(lambda found: f"${{{len(found[0]) // len(found[1])}*{found[1]}}}", written)


def _write(value: msgspec.Raw, name: str) -> str:
    text = bytes(value).decode("utf-8").strip()
    if name in _RAW:
        return text
    if text.startswith("{"):
        fields = sorted((key, one) for key, one in _decode(value).items() if (name, key) not in _LEFT_OUT)
        return "{" + ",".join(f"{json.dumps(key)}:{_write(one, key)}" for key, one in fields) + "}"
    if text.startswith("["):
        return (
            "["
            + ",".join(
                _write(one, _ELEMENTS.get(name, "")) for one in msgspec.json.decode(value, type=list[msgspec.Raw])
            )
            + "]"
        )
    if name == "epoch" and text != '""':
        return '"<epoch>"'
    if name == "version":
        return '"<version>"'
    if name in ("message", "reason") and text.startswith('"'):
        return json.dumps(json.loads(text).partition(":")[0])
    if name == "ttl":
        return _round(int(text))
    return json.dumps(json.loads(text), ensure_ascii=False) if text.startswith('"') else text


def _round(ttl: int) -> str:
    """Return a lifetime, rounded up to 10 s if less than 5 s of them have passed."""
    return '"<a few>"' if ttl < 10 else f'"<{ttl + -ttl % 10}>"' if -ttl % 10 < 5 else str(ttl)


def close(payload: bytes) -> str:
    """Return the payload of a Close frame as text."""
    code = int.from_bytes(payload[:2], "big") if payload else 0
    return f"CLOSE {code} {payload[2:].decode('utf-8', 'replace').partition(':')[0]}".rstrip()


_OWN = re.compile(r'\{"push":\{"channel":".*","pub":')
_REPLY = re.compile(r'\{(?:"id":[0-9]+,)?"(?:publish|history|presence|presence_stats)":')


def settle(answers: list[str]) -> list[str]:
    """
    Move each publication behind the replies that directly follow it, unless they concern a subscription.

    Centrifugo delivers a client's own publication before the reply, and this server after it; the protocol sets no
    order.
    """
    settled = list(answers)
    for end in range(len(settled) - 1, 0, -1):
        for at in range(end):
            if _OWN.match(settled[at]) and _REPLY.match(settled[at + 1]):
                settled[at], settled[at + 1] = settled[at + 1], settled[at]
    return settled


_NUMBER = re.compile(r'"id":([0-9]+)')


def collapse(answers: list[str]) -> list[str]:
    """Write ten or more answers that differ only in their ID as one: with the first and the last ID."""
    collapsed: list[str] = []
    for _, group in itertools.groupby(answers, lambda answer: _NUMBER.sub("", answer)):
        run = list(group)
        if len(run) >= 10 and (first := _NUMBER.search(run[0])) and (last := _NUMBER.search(run[-1])):
            run = [_NUMBER.sub(f'"id":"<{first[1]}-{last[1]}>"', run[0])]
        collapsed += run
    return collapsed

"""Redis URLs: parse the address of a Redis server, or of the sentinels that know its address."""

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from wsserver.text import join_choices

__all__ = ["RedisURL", "parse_redis_url"]

_EXPECTED = (
    "expected a URL such as redis://127.0.0.1:6379/0, rediss://user:password@host "
    "or redis+sentinel://host1:26379,host2:26379/mymaster"
)

# `urlsplit` does not support a list of hosts.
_URL = re.compile(
    r"(?P<scheme>rediss?)(?P<sentinel>\+sentinel)?://(?:(?P<user>[^/?#]*)@)?"
    r"(?P<hosts>[^/?#@]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?",
    re.IGNORECASE,
)
_HOST = re.compile(r"(?:\[(?P<ipv6>[^\]]*)\]|(?P<name>[0-9A-Za-z._-]+))(?::(?P<port>[0-9]*))?")


@dataclass(frozen=True, slots=True)
class RedisURL:
    """The parts of `redis://user:password@host:6379/0`, or of `redis+sentinel://host1,host2/mymaster/0`."""

    hosts: tuple[tuple[str, int], ...]
    """(host, port) of the Redis server, or of each sentinel."""
    master: str
    """The name of the master that the sentinels monitor; empty without sentinels."""
    tls: bool
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    database: int
    ca_file: str
    """Path of a PEM file with the certificates to trust; empty for the certificates that the system trusts."""
    sentinel_username: str | None = field(repr=False)
    sentinel_password: str | None = field(repr=False)

    @property
    def shown(self) -> str:
        """The URL without user names and passwords, for logs."""
        scheme = ("rediss" if self.tls else "redis") + ("+sentinel" if self.master else "")
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{scheme}://{hosts}/{self.master + '/' if self.master else ''}{self.database}"


def parse_redis_url(text: str) -> RedisURL:
    """
    Parse the URL of a Redis server.

    The forms are those of other Redis clients:

    - `redis://user:password@host:port/database`, and `rediss://` for TLS, as registered with IANA.
    - `redis+sentinel://user:password@host1:port1,host2:port2/master/database` for sentinels, and `rediss+sentinel://`
      for TLS. User and password are those of the Redis server; `sentinel_username` and `sentinel_password` in the query
      are those of the sentinels.

    With TLS, `ssl_ca_certs` in the query is the path of a PEM file with the certificates to trust, as in redis-py.

    Args:
        text: the URL.

    Returns:
        The parts of the URL.

    Raises:
        ValueError: the URL is invalid. The message says what was expected but quotes no part of the URL, because in a
            malformed URL any part may belong to a password.
    """
    parts = _URL.fullmatch(text)
    if parts is None:
        raise ValueError(_EXPECTED)
    tls, sentinel = parts["scheme"].lower() == "rediss", parts["sentinel"] is not None
    username, password = _user(parts["user"])
    master, database = _path(parts["path"] or "", sentinel=sentinel)
    query = _query(parts["query"], tls=tls, sentinel=sentinel)
    if "sentinel_username" in query and "sentinel_password" not in query:
        raise ValueError("expected a sentinel_password with the sentinel_username")
    hosts = parts["hosts"].split(",")
    if len(hosts) > 1 and not sentinel:
        raise ValueError(
            "expected one host; several hosts must be sentinels, as in redis+sentinel://host1,host2/mymaster"
        )
    return RedisURL(
        hosts=tuple(_host(host, 26379 if sentinel else 6379) for host in hosts),
        master=master,
        tls=tls,
        username=username,
        password=password,
        database=database,
        ca_file=query.get("ssl_ca_certs", ""),
        sentinel_username=query.get("sentinel_username"),
        sentinel_password=query.get("sentinel_password"),
    )


def _user(text: str | None) -> tuple[str | None, str | None]:
    if not text:
        return None, None
    name, colon, password = text.partition(":")
    if not colon:
        raise ValueError(
            "expected a password too: redis://user:password@host, or redis://:password@host without a user"
        )
    if not name and not password:
        return None, None
    try:
        # An empty password is valid: a Redis user may be configured with `nopass`.
        return unquote(name, errors="strict") or None, unquote(password, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("expected user and password in UTF-8, percent-encoded, as %40 for @") from None


def _host(text: str, default: int) -> tuple[str, int]:
    if not text:
        raise ValueError(_EXPECTED)
    if not text.isascii():
        raise ValueError("expected an ASCII host name; write a name with other letters in its xn-- form")
    parts = _HOST.fullmatch(text)
    if parts is None:
        raise ValueError(f"{_EXPECTED}; in user and password, write %40 for @, %2F for /, %23 for # and %3F for ?")
    if parts["ipv6"] is not None:
        try:
            ipaddress.IPv6Address(parts["ipv6"])
        except ValueError:
            raise ValueError("expected an IPv6 address between the brackets, as [::1]") from None
    port = int(parts["port"]) if parts["port"] else default
    if not 1 <= port <= 65535:
        raise ValueError("expected a port from 1 to 65535")
    return (parts["ipv6"] or parts["name"]).lower(), port


def _path(text: str, *, sentinel: bool) -> tuple[str, int]:
    found = re.fullmatch(r"/(?P<master>[0-9A-Za-z._-]+)(?:/(?P<database>[0-9]{0,4}))?", text) if sentinel else None
    if sentinel and found is None:
        raise ValueError(
            "expected the name of the master after the sentinels, as redis+sentinel://host:26379/mymaster/0"
        )
    if found is not None:
        return found["master"], int(found["database"] or 0)
    plain = re.fullmatch(r"/?([0-9]{0,4})", text)
    if plain is None:
        raise ValueError("expected the number of a database after the host, as redis://host/0")
    return "", int(plain[1] or 0)


def _query(text: str | None, *, tls: bool, sentinel: bool) -> dict[str, str]:
    known = (["ssl_ca_certs"] if tls else []) + (["sentinel_username", "sentinel_password"] if sentinel else [])
    try:
        found = parse_qsl(text or "", strict_parsing=bool(text), keep_blank_values=True, errors="strict")
    except ValueError:
        raise ValueError("expected name=value in the query") from None
    if len(dict(found)) < len(found) or not all(name in known and value for name, value in found):
        if not known:
            raise ValueError("expected no query in a URL of this kind")
        raise ValueError(f"expected {join_choices(known)}, once and with a value, in the query")
    return dict(found)

"""Where a Redis is."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

__all__ = ["RedisURL", "parse_redis_url"]


@dataclass(frozen=True, slots=True)
class RedisURL:
    """The parts of `redis://user:password@host:6379/0`."""

    host: str
    port: int
    tls: bool
    username: str | None
    password: str | None
    database: int

    @property
    def shown(self) -> str:
        """The URL without user and password, for logs."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.database}"


def parse_redis_url(text: str) -> RedisURL:
    """
    Read the URL of a Redis.

    Args:
        text: `redis://` or, with TLS, `rediss://`; then perhaps user and password, a host, perhaps port and database.

    Returns:
        Its parts.

    Raises:
        ValueError: it is no such URL; the message says what was expected.
    """
    expected = "expected a URL such as redis://127.0.0.1:6379/0 or rediss://user:password@host"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(expected) from None
    database = re.fullmatch(r"/?([0-9]{0,4})", parts.path)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or database is None or parts.query:
        raise ValueError(expected)
    return RedisURL(
        host=parts.hostname,
        port=port or 6379,
        tls=parts.scheme == "rediss",
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password is not None else None,
        database=int(database[1] or 0),
    )

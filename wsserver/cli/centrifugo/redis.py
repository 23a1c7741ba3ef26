"""Convert the address of Centrifugo's Redis into the URL of `--redis`."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from wsserver.cli.centrifugo.source import Source

__all__ = ["convert_redis"]

_ADDRESS: Final = re.compile(r"[^/@?#\s]+:[0-9]+")
"""An address without a scheme: `host:port`."""

_SCHEME: Final = re.compile(r"(tcp|redis)(?P<tls>s)?(?P<sentinel>\+sentinel)?")

_CONVERTED: Final = frozenset({"sentinel_master_name", "sentinel_user", "sentinel_password", "tls_enabled", "addr"})
"""The parameters of Centrifugo's Redis URLs that are converted."""


@dataclass(slots=True, kw_only=True)
class _Redis:
    """The parts of the URL; the user and the password are percent-encoded."""

    hosts: str
    user: str
    password: str
    database: str
    tls: bool
    authority: str
    """Path of a file with the certificates to trust; empty for those that the system trusts."""
    master: str
    """The name of the master that the sentinels monitor; empty without sentinels."""
    sentinel_user: str
    sentinel_password: str

    def url(self) -> str:
        scheme = ("rediss" if self.tls else "redis") + ("+sentinel" if self.master else "")
        credentials = f"{self.user}:{self.password}@" if self.user or self.password else ""
        query = {
            "sentinel_username": self.sentinel_user,
            "sentinel_password": self.sentinel_password,
            "ssl_ca_certs": self.authority if self.tls else "",
        }
        path = f"{self.master}/{self.database}" if self.master else self.database
        given = urlencode({name: value for name, value in query.items() if value}, quote_via=quote)
        return f"{scheme}://{credentials}{self.hosts}/{path}" + (f"?{given}" if given else "")


def convert_redis(source: Source, section: str) -> str:
    """
    Return the URL of the Redis server, or of its sentinels.

    Args:
        source: the options.
        section: the section with the options of Redis, such as `engine.redis`.

    Returns:
        The URL; empty if the server cannot use this Redis, which a note says.
    """

    def text(name: str) -> str:
        return source.take_text(f"{section}.{name}")

    option = f"{section}.address"
    addresses, cluster, sentinels = (
        source.take_texts(f"{section}.{name}") for name in ("address", "cluster_address", "sentinel_address")
    )
    redis = _Redis(
        hosts="",
        user=quote(text("user"), ""),
        password=quote(text("password"), ""),
        database=str(source.take_number(f"{section}.db") or 0),
        tls=source.take_flag(f"{section}.tls.enabled"),
        authority=text("tls.server_ca_pem"),
        master=text("sentinel_master_name"),
        sentinel_user=text("sentinel_user"),
        sentinel_password=text("sentinel_password"),
    )
    if "\n" in redis.authority or redis.authority.startswith("-----BEGIN"):
        source.note(f"{section}.tls.server_ca_pem", "no counterpart: write the PEM to a file, and name its path")
        redis.authority = ""
    if cluster:
        source.note(f"{section}.cluster_address", "no counterpart: Redis Cluster is not supported")
        return ""
    if len(addresses) > 1 or len(sentinels) > 1:
        source.note(option, "no counterpart: channels cannot be spread over several Redis servers")
        return ""
    address = addresses[0] if addresses else "redis://127.0.0.1:6379"
    if sentinels:
        redis.hosts = sentinels[0]
    elif _ADDRESS.fullmatch(address):
        redis.hosts = address
    elif not _read_url(redis, address):
        source.note(option, "no counterpart: expected redis://, rediss:// or redis+sentinel://")
        return ""
    for name, _ in parse_qsl(urlsplit(address).query):
        if name not in _CONVERTED:
            source.note(option, f"no counterpart for the parameter {name} in the URL")
    return redis.url()


def _read_url(redis: _Redis, address: str) -> bool:
    """Replace parts by those of a URL; return False if the server does not support URLs of this kind."""
    parts = urlsplit(address)
    scheme = _SCHEME.fullmatch(parts.scheme)
    if scheme is None:
        return False
    query = dict(parse_qsl(parts.query))
    credentials, _, host = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    redis.hosts = ",".join([host, *(value for name, value in parse_qsl(parts.query) if name == "addr")])
    redis.user, redis.password = user or redis.user, password or redis.password
    redis.database = parts.path.strip("/") or redis.database
    redis.tls = redis.tls or scheme["tls"] is not None or query.get("tls_enabled") in ("true", "1")
    redis.master = query.get("sentinel_master_name", redis.master)
    redis.sentinel_user = query.get("sentinel_user", redis.sentinel_user)
    redis.sentinel_password = query.get("sentinel_password", redis.sentinel_password)
    return True

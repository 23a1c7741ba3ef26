"""Convert a configuration of Centrifugo 6 into options of this server."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from wsserver.cli.centrifugo import channels, hooks
from wsserver.cli.centrifugo.channels import Tables
from wsserver.cli.centrifugo.defaults import DEFAULTS, SWITCHED
from wsserver.cli.centrifugo.hooks import Hooks
from wsserver.cli.centrifugo.reasons import CHANNEL_REASONS, NEEDLESS, REASONS, find_reason
from wsserver.cli.centrifugo.redis import convert_redis
from wsserver.cli.centrifugo.source import Note, Source
from wsserver.config.parsers import show_duration
from wsserver.config.settings import MIN_SECRET, TABLE
from wsserver.text import quote

__all__ = ["Converted", "convert"]

_KEYS: Final = ("token_secret", "token_public_key", "token_jwks_url")
_NAME: Final = re.compile(r"[-A-Za-z0-9_.]+")
"""A name of a namespace that Centrifugo accepts."""

_RPC_DEFAULTS: Final = {"proxy_name": "default"}
_SERVED: Final = ("health", "sse", "http_stream", "uni_sse", "uni_http_stream", "uni_websocket")
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


@dataclass(slots=True)
class Converted:
    """The result of a conversion."""

    options: dict[str, Any] = field(default_factory=dict)
    """Option of this server -> value, as it is written in the file."""
    tables: Tables = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def convert(document: Mapping[str, Any]) -> Converted:
    """
    Convert a configuration of Centrifugo 6.

    Args:
        document: the sections, by name.

    Returns:
        Options that this server accepts, and a note for each option that it has no counterpart for.
    """
    return _Conversion(document).run()


class _Conversion:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._result = Converted()
        notes = self._result.notes
        self._source = Source(document, DEFAULTS, notes)
        for section in SWITCHED:
            if f"{section}.enabled" not in self._source:
                self._source.drop(section)
        # These may be empty in the file, to disable what they do.
        channel = document.get("channel") or {}
        self._boundary, self._private_prefix = (
            self._take_character(name, channel.get(name, default))
            for name, default in (("namespace_boundary", ":"), ("private_prefix", "$"))
        )
        self._parts: list[Source] = []
        """Namespaces and proxies, whose remaining options get notes, too."""
        named = {
            str(table.get("name", "")): Source(
                {name: value for name, value in table.items() if name != "name"},
                hooks.DEFAULTS,
                notes,
                prefix=f"proxies[{table.get('name', '')}].",
            )
            for table in self._source.take_tables("proxies")
        }
        self._hooks = Hooks(named, notes)

    def run(self) -> Converted:
        self._convert_server()
        self._convert_redis()
        self._convert_tokens()
        self._convert_clients()
        self._convert_api()
        self._convert_channels()
        self._convert_rpc()
        self._write_hooks()
        options = self._result.options
        if not options.keys() & {*_KEYS, "anonymous", "insecure", "hook_connect"}:
            self._source.note("client.token", "no key is set; this server then admits clients without a token")
        for name in NEEDLESS:
            self._source.drop(name)
        self._note_rest()
        self._result.options = {name: options[name] for name in TABLE if name in options}
        return self._result

    def _set(self, name: str, value: Any, origin: str) -> None:
        """Set an option, if it has a value and the server accepts it."""
        if value in (None, "", False, []):
            return
        option = TABLE[name]
        try:
            option.check(value)
        except (ValueError, LookupError) as error:
            self._source.note(origin, f"not converted: {error}")
            return
        self._result.options[name] = show_duration(value) if option.show is show_duration else value

    def _convert_server(self) -> None:
        source = self._source
        # Centrifugo listens on all addresses by default, this server on loopback.
        self._set("interface", source.take_text("http_server.address") or "0.0.0.0", "http_server.address")  # noqa: S104
        port = source.take_number("http_server.port")
        self._set("port", 8000 if port is None else port, "http_server.port")
        if source.take_flag("http_server.tls.enabled"):
            for theirs, ours in (("cert_pem", "tls_cert"), ("key_pem", "tls_key")):
                path = source.take_text(f"http_server.tls.{theirs}")
                if "\n" in path or path.startswith(("-----BEGIN", "LS0t")):
                    source.note(f"http_server.tls.{theirs}", f"no counterpart: write the PEM to a file, and set {ours}")
                else:
                    self._set(ours, path, f"http_server.tls.{theirs}")
        origins = [origin for origin in source.take_texts("client.allowed_origins") if origin]
        if "*" in origins:
            self._set("allow_any_origin_insecure", True, "client.allowed_origins")
            origins = []
        for origin in [origin for origin in origins if "*" in origin]:
            origins.remove(origin)
            source.note("client.allowed_origins", f"no counterpart for {quote(origin)}: name each origin")
        self._set("origin", origins, "client.allowed_origins")

    def _convert_redis(self) -> None:
        source = self._source
        for section in ("engine", "broker"):
            if source.take_text(f"{section}.type") == "redis":
                self._set("redis", convert_redis(source, f"{section}.redis"), f"{section}.redis.address")
            else:
                source.drop(f"{section}.redis")
            source.take_flag(f"{section}.enabled")

    def _convert_tokens(self) -> None:
        source = self._source
        secrets = (("hmac_secret_key", "token_secret"), ("hmac_previous_secret_key", "token_secret_previous"))
        for theirs, ours in secrets:
            self._set(ours, source.take_text(f"client.token.{theirs}"), f"client.token.{theirs}")
        options = self._result.options
        if any(0 < len(options.get(ours, "").encode()) < MIN_SECRET for _, ours in secrets):
            options["token_secret_weak"] = True
        keys = [source.take_text(f"client.token.{name}") for name in ("rsa_public_key", "ecdsa_public_key")]
        self._set("token_public_key", "\n".join(key for key in keys if key), "client.token.rsa_public_key")
        for theirs, ours in (
            ("jwks_public_endpoint", "token_jwks_url"),
            ("audience", "token_audience"),
            ("issuer", "token_issuer"),
        ):
            self._set(ours, source.take_text(f"client.token.{theirs}"), f"client.token.{theirs}")
        if any(name in options for name in _KEYS):
            # Centrifugo accepts such tokens.
            options["token_no_expiry"] = True

    def _convert_clients(self) -> None:
        source = self._source
        name = "client.allow_anonymous_connect_without_token"
        self._set("anonymous", source.take_flag(name), name)
        self._convert_development("client.insecure", "insecure")
        personal = source.section("client.subscribe_to_user_personal_channel")
        if personal.take_flag("enabled"):
            namespace = personal.take_text("personal_channel_namespace")
            self._set("personal_channel", f"{namespace}{self._boundary}#" if namespace else "#", "client")
            self._parts.append(personal)
        for theirs, ours in (("ping_interval", "ping_interval"), ("pong_timeout", "ping_timeout")):
            self._set(ours, source.take_seconds(f"client.{theirs}"), f"client.{theirs}")
        for theirs, ours in (
            ("client.queue_max_size", "max_queued_bytes"),
            ("client.connection_limit", "max_connections"),
            ("websocket.message_size_limit", "max_message_size"),
            ("websocket.compression_min_size", "compression_min_size"),
        ):
            self._set(ours, source.take_number(theirs), theirs)
        self._set("compression", "on" if source.take_flag("websocket.compression") else "", "websocket.compression")
        # Their paths are always served.
        for section in _SERVED:
            if not source.take_flag(f"{section}.enabled"):
                source.drop(section)

    def _convert_api(self) -> None:
        source = self._source
        if source.take_flag("http_api.disabled"):
            source.drop("http_api")
            return
        self._convert_development("http_api.insecure", "api_insecure")
        self._set("api_key", source.take_text("http_api.key"), "http_api.key")
        if source.take_text("http_api.error_mode") == "transport":
            source.note("http_api.error_mode", 'the body of an error is {"error": {...}}; the status is the same')
        else:
            # Centrifugo's default, which its libraries expect.
            self._set("api_errors", "body", "http_api")
        if "http_server.internal_port" not in source:
            source.drop("http_api.external")

    def _convert_development(self, theirs: str, ours: str) -> None:
        """Convert an option for development, which this server refuses if other machines can reach it."""
        if not self._source.take_flag(theirs):
            return
        if self._result.options["interface"] in _LOOPBACK:
            self._set(ours, True, theirs)
        else:
            flag = TABLE[ours].flag
            self._source.note(
                theirs, f"not converted: the server listens beyond loopback; {flag} needs --interface 127.0.0.1"
            )

    def _convert_channels(self) -> None:
        source = self._source
        for event in ("subscribe", "publish"):
            self._hooks.add_default(event, source.section(f"channel.proxy.{event}", hooks.DEFAULTS))
        found: dict[str, dict[str, Any]] = {}
        for table in source.take_tables("channel.namespaces"):
            name = str(table.get("name", ""))
            if not _NAME.fullmatch(name):
                source.note("channel.namespaces", f"not converted: {quote(name)} is not the name of a namespace")
                continue
            options = {option: value for option, value in table.items() if option != "name"}
            part = Source(options, channels.DEFAULTS, self._result.notes, prefix=f"channel.namespaces[{name}].")
            found[name] = self._convert_namespace(part)
        without = self._convert_namespace(source.section("channel.without_namespace", channels.DEFAULTS))
        self._result.tables = channels.make_tables(found, without, self._boundary, self._private_prefix)
        self._result.options["history_size"] = 0
        # The other proxies; a namespace that uses one gets a note.
        source.drop("channel.proxy")

    def _take_character(self, name: str, value: object) -> str:
        """Return a text that has a meaning in names of channels; empty if it has none."""
        self._source.drop(f"channel.{name}")
        if isinstance(value, str) and value.isprintable() and "*" not in value:
            return value
        self._source.note(f"channel.{name}", f"not converted: {quote(str(value))} cannot be used in a pattern")
        return ""

    def _convert_namespace(self, source: Source) -> dict[str, Any]:
        self._parts.append(source)
        return channels.convert_channel_options(source, self._hooks)

    def _convert_rpc(self) -> None:
        source = self._source
        self._hooks.add_default("rpc", source.section("rpc.proxy", hooks.DEFAULTS))
        users = [("rpc.without_namespace", source.section("rpc.without_namespace", _RPC_DEFAULTS))]
        for table in source.take_tables("rpc.namespaces"):
            section = f"rpc.namespaces[{table.get('name', '')}]"
            options = {option: value for option, value in table.items() if option != "name"}
            users.append((section, Source(options, _RPC_DEFAULTS, self._result.notes, prefix=section + ".")))
        enabled = [section for section, user in users if self._use_rpc_proxy(section, user)]
        if 0 < len(enabled) < len(users):
            self._source.note("rpc", "the RPC hook is asked for every method, not only for those of some namespaces")

    def _use_rpc_proxy(self, section: str, source: Source) -> bool:
        enabled, name = source.take_flag("proxy_enabled"), source.take_text("proxy_name") or "default"
        return enabled and self._hooks.use("rpc", name, f"{section}.proxy_enabled")

    def _write_hooks(self) -> None:
        source = self._source
        connect = source.section("client.proxy.connect", hooks.DEFAULTS)
        self._hooks.add_default("connect", connect)
        if connect.take_flag("enabled"):
            self._hooks.use("connect", "default", "client.proxy.connect.enabled")
        for event, url in self._hooks.urls.items():
            self._set(f"hook_{event}", url, f"hook_{event}")
        timeouts = self._hooks.timeouts
        if timeouts and timeouts != {1.0}:
            self._set("hook_timeout", max(timeouts), "client.proxy.connect.timeout")
        if len(timeouts) > 1:
            source.note("timeout of proxies", f"all hooks have the longest one: {show_duration(max(timeouts))}")
        tables = self._result.tables
        for _, keys in tables:
            for event in ("subscribe", "publish"):
                # True is the default; without a hook, the key has no effect.
                if keys.get(f"hook_{event}", True) or event not in self._hooks.urls:
                    keys.pop(f"hook_{event}", None)
        # The last table matches all channels.
        while len(tables) > 1 and tables[-2][1] == tables[-1][1]:
            del tables[-2]

    def _note_rest(self) -> None:
        for section in SWITCHED:
            if f"{section}.enabled" in self._source:
                # One note for the whole section.
                self._source.drop(section)
                reason = find_reason(section, REASONS)
                assert reason is not None
                self._source.note(f"{section}.enabled", f"no counterpart: {reason}")
        for part in (self._source, *self._parts, *self._hooks.used):
            for name in part:
                full = part.full_name(name)
                reason = find_reason(full, REASONS) or find_reason(name, CHANNEL_REASONS)
                part.note(name, f"no counterpart: {reason}" if reason else "unknown: not an option of Centrifugo 6.9")

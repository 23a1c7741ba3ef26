"""Convert Centrifugo's namespaces into `[[channel]]` tables."""

from collections.abc import Mapping
from typing import Any, Final

from wsserver.cli.centrifugo.hooks import Hooks
from wsserver.cli.centrifugo.source import Source
from wsserver.config.parsers import show_duration

__all__ = ["DEFAULTS", "Tables", "convert_channel_options", "make_tables"]

Tables = list[tuple[str, dict[str, Any]]]
"""Pairs of a pattern and the keys of its `[[channel]]` table, in the order of the file."""

DEFAULTS: Final[Mapping[str, Any]] = {
    f"{section}{proxy}_proxy_name": "default"
    for section, proxies in (
        ("", ("subscribe", "publish", "sub_refresh", "subscribe_stream")),
        ("map.", ("publish", "remove")),
    )
    for proxy in proxies
}
"""The defaults of the options of channels that are not false, zero or empty."""


def convert_channel_options(source: Source, hooks: Hooks) -> dict[str, Any]:
    """
    Convert the options of a namespace.

    Args:
        source: the options; those that are converted are removed.
        hooks: receives the proxies that the namespace uses.

    Returns:
        The keys of the table, in the order in which they are written.
    """
    subscribes = _proxy(source, hooks, "subscribe")
    publishes = _proxy(source, hooks, "publish")
    keys = _permissions(source, "subscribe", ("client",))
    if subscribes or not keys:
        keys = {"allow_subscribe_for_client": False}
    if source.take_flag("allow_user_limited_channels"):
        keys["allow_user_limited_channels"] = True
    publish = _permissions(source, "publish", ("subscriber", "client"))
    keys |= {} if publishes else publish
    keys |= _presence(source) | _history(source) | _publications(source)
    return keys | {"hook_subscribe": subscribes, "hook_publish": publishes}


def make_tables(
    namespaces: Mapping[str, dict[str, Any]], without: dict[str, Any], boundary: str, private_prefix: str
) -> Tables:
    """
    Return the tables for all channels. The first table that matches a channel applies.

    Args:
        namespaces: name -> keys.
        without: the keys for channels without a namespace.
        boundary: what separates a namespace from the rest of a channel's name; empty if there are no namespaces.
        private_prefix: what begins the names of channels that need a token; empty if there are none.
    """
    tables: Tables = []
    for name, keys in namespaces.items() if boundary else ():
        pattern = f"{name}{boundary}*"
        private = _close(keys)
        if private_prefix and private != _CLOSED:
            tables.append((private_prefix + pattern, private))
        tables.append((pattern, keys))
    if boundary:
        # Centrifugo refuses channels of a namespace that it does not have.
        tables.append((f"*{boundary}*", _CLOSED))
    if private_prefix and _close(without) != without:
        tables.append((f"{private_prefix}*", _close(without)))
    return [*tables, ("*", without)]


_CLOSED: Final[dict[str, Any]] = {"allow_subscribe_for_client": False, "hook_subscribe": False, "hook_publish": False}


def _close(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys for the private channels of a namespace, for which a client needs a token."""
    closed = dict(keys) | {"allow_subscribe_for_client": False, "hook_subscribe": False}
    closed.pop("allow_user_limited_channels", None)
    closed.pop("allow_subscribe_for_anonymous", None)
    return closed


def _proxy(source: Source, hooks: Hooks, event: str) -> bool:
    enabled, name = source.take_flag(f"{event}_proxy_enabled"), source.take_text(f"{event}_proxy_name") or "default"
    return enabled and hooks.use(event, name, source.full_name(f"{event}_proxy_enabled"))


def _permissions(source: Source, verb: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Convert `allow_VERB_for_...`; the server's defaults are left out, as is everything if nobody has a permission."""
    allowed = {f"allow_{verb}_for_{kind}": source.take_flag(f"allow_{verb}_for_{kind}") for kind in kinds}
    anonymous = source.take_flag(f"allow_{verb}_for_anonymous")
    if any(allowed.values()) and not anonymous:
        allowed[f"allow_{verb}_for_anonymous"] = False
        return {name: value for name, value in allowed.items() if value or name.endswith("anonymous")}
    return {name: value for name, value in allowed.items() if value}


def _reading(source: Source, what: str) -> dict[str, Any]:
    keys = _permissions(source, what, ("subscriber", "client"))
    # The server's default is that subscribers may read.
    if not keys.pop(f"allow_{what}_for_subscriber", False):
        keys = {f"allow_{what}_for_subscriber": False, **keys}
    return keys


def _presence(source: Source) -> dict[str, Any]:
    presence, events, forced = (source.take_flag(name) for name in ("presence", "join_leave", "force_push_join_leave"))
    readable = _reading(source, "presence")
    if not (presence or events):
        return {}
    if not presence:
        source.note("join_leave", "the server also keeps presence, from which it makes the events")
    pushes = {"force_push_join_leave": True} if forced else {}
    return {"presence": True, **readable, **(pushes if events else {"join_leave": False})}


def _history(source: Source) -> dict[str, Any]:
    size, seconds = source.take_number("history_size") or 0, source.take_seconds("history_ttl") or 0
    keys: dict[str, Any] = {"history_size": size, "history_ttl": show_duration(seconds), **_reading(source, "history")}
    # Every subscriber recovers in a channel with history.
    for name in ("force_positioning", "allow_positioning", "force_recovery", "allow_recovery"):
        source.take_flag(name)
    cache, automatic = source.take_text("force_recovery_mode") == "cache", source.take_flag("auto_cache_recover")
    if cache:
        keys |= {"force_recovery_mode": "cache", **({"rewind": 1} if automatic else {})}
    return keys if size and seconds else {}


def _publications(source: Source) -> dict[str, Any]:
    types, always = source.take_texts("allowed_delta_types"), source.take_flag("delta_publish")
    keys: dict[str, Any] = {"delta": "always" if always else "requested"} if "fossil" in types else {}
    return keys | ({"allow_tags_filter": True} if source.take_flag("allow_tags_filter") else {})

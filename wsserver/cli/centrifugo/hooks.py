"""Convert Centrifugo's proxies into hooks."""

from collections.abc import Mapping
from typing import Any, Final

from wsserver.cli.centrifugo.source import Note, Source
from wsserver.hooks.messages import FORWARDED

__all__ = ["DEFAULTS", "Hooks"]

DEFAULTS: Final[Mapping[str, Any]] = {"timeout": "1s"}
"""The defaults of a proxy's options that are not false, zero or empty."""

_STATIC_HEADERS: Final = "http.static_headers"


class Hooks:
    """
    The hooks that the configuration needs: one URL for each event.

    Args:
        proxies: name -> options, for the entries of `proxies`.
        notes: receives the notes.
    """

    def __init__(self, proxies: Mapping[str, Source], notes: list[Note]) -> None:
        self._proxies = dict(proxies)
        self._notes = notes
        self.urls: dict[str, str] = {}
        """Event -> URL."""
        self.timeouts: set[float] = set()
        """The timeouts of the proxies that are used, in seconds."""
        self.used: list[Source] = []
        """The options of these proxies that have not been converted."""
        self._read: dict[str, str] = {}
        """Name of a proxy -> its URL, if the proxy has been converted."""

    def add_default(self, event: str, proxy: Source) -> None:
        """Add the proxy that has the name `default` for an event."""
        self._proxies[f"default {event}"] = proxy

    def use(self, event: str, name: str, option: str) -> bool:
        """
        Use a proxy for an event.

        Args:
            event: `connect`, `subscribe`, `publish` or `rpc`.
            name: the name of the proxy.
            option: the option that selects it, for notes.

        Returns:
            Whether the hook of this event has the proxy's URL.
        """
        name = f"default {event}" if name == "default" else name
        url = self._convert(name)
        if not url:
            self._notes.append(Note(option, f"no counterpart: the proxy {name!r} has no URL with http or https"))
            return False
        if self.urls.setdefault(event, url) != url:
            self._notes.append(Note(option, f"no counterpart: hook_{event} has one URL for all channels and methods"))
            return False
        return True

    def _convert(self, name: str) -> str:
        if name not in self._read:
            proxy = self._proxies.get(name)
            self._read[name] = "" if proxy is None else self._convert_options(proxy)
        return self._read[name]

    def _convert_options(self, proxy: Source) -> str:
        self.used.append(proxy)
        url, seconds = proxy.take_text("endpoint"), proxy.take_seconds("timeout")
        self.timeouts.add(1.0 if seconds is None else seconds)
        for header in proxy.take_texts("http_headers"):
            if header.lower() not in FORWARDED:
                proxy.note("http_headers", f"no counterpart for {header}: hooks forward a fixed list of headers")
        if any(name.startswith(f"{_STATIC_HEADERS}.") for name in proxy):
            # One note for all of them; their values may be secrets.
            proxy.drop(_STATIC_HEADERS)
            proxy.note(
                _STATIC_HEADERS, "no counterpart: put a secret into the URL of the hook, as http://host/path?key=..."
            )
        return url if url.startswith(("http://", "https://")) else ""

"""
Hand the settings to a worker, through the channel: neither secrets nor anything else is on its command line.

All workers get the settings that the supervisor has checked, also those that start after the file was edited.
"""

from collections.abc import Mapping
from typing import Any

from wsserver.config.options import Option
from wsserver.config.settings import BY_CHANNEL, TABLE, Settings

__all__ = ["dump", "load"]


def dump(settings: Settings) -> dict[str, Any]:
    """Return the options that differ from their defaults, as a JSON object."""
    found: dict[str, Any] = {
        option.name: _write(option, value)
        for option in TABLE.values()
        if (value := getattr(settings, option.name)) != option.default
    }
    if settings.channel:
        found["channel"] = [
            [pattern, {name: _write(BY_CHANNEL[name], value) for name, value in options.items()}]
            for pattern, options in settings.channel
        ]
    return found


def load(found: Mapping[str, Any]) -> Settings:
    """Return the settings of which `dump` has returned the JSON object."""
    return Settings(**found)


def _write(option: Option, value: Any) -> Any:
    if option.is_flag:
        return value
    return [option.show(one) for one in value] if option.many else option.show(value)

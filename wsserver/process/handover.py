"""
Hand the settings to a worker, through the channel: neither secrets nor anything else is on its command line.

All workers get the settings that the supervisor has checked, also those that start after the file was edited.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Any

from wsserver.config.options import Option
from wsserver.config.settings import BY_CHANNEL, TABLE, Settings
from wsserver.listening.renewal import CertificateSource
from wsserver.wire.certificates import MAX_FILE
from wsserver.wire.handed_files import read_all

__all__ = ["dump", "dump_files", "load", "load_files"]


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


def dump_files(sources: Iterable[CertificateSource]) -> dict[str, str]:
    """
    Return the contents of certificate files in base64: path -> contents.

    The workers use them if they run as a user who may not read the files.
    """
    contents = read_all((path for source in sources for path in source.files()), MAX_FILE)
    return {path: b64encode(data).decode("ascii") for path, data in contents.items()}


def load_files(found: Mapping[str, str]) -> dict[str, bytes]:
    """Return the contents of which `dump_files` has returned the JSON object."""
    return {path: b64decode(text) for path, text in found.items()}

"""
Hand the settings to a worker, through the channel: neither secrets nor anything else is on its command line.

All workers get the settings that the supervisor has checked, also those that start after the file was edited.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Any

from twisted.logger import Logger

from wsserver.config.options import Option
from wsserver.config.settings import BY_CHANNEL, TABLE, Settings
from wsserver.listening.renewal import CertificateSource
from wsserver.wire.handed_files import Files

__all__ = ["dump", "dump_files", "load", "load_files"]

_log = Logger(namespace="wsserver.workers")


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
    """
    Return the settings of which `dump` has returned the JSON object.

    After an upgrade, the supervisor may have options that this version does not have: a warning names them.

    Raises:
        SettingError: this version refuses a value.
    """
    known = {name: value for name, value in found.items() if name in TABLE}
    unknown = found.keys() - TABLE.keys() - {"channel"}
    if "channel" in found:
        unknown |= {name for _, options in found["channel"] for name in options.keys() - BY_CHANNEL.keys()}
        known["channel"] = [
            [pattern, {name: value for name, value in options.items() if name in BY_CHANNEL}]
            for pattern, options in found["channel"]
        ]
    if unknown:
        names = ",".join("--" + name.replace("_", "-") for name in sorted(unknown))
        _log.warn("options ignored that this version does not have names={names}", names=names)
    return Settings(**known)


def _write(option: Option, value: Any) -> Any:
    if option.is_flag:
        return value
    return [option.show(one) for one in value] if option.many else option.show(value)


def dump_files(sources: Iterable[CertificateSource]) -> dict[str, Any]:
    """
    Return the files of the certificates in use, as a JSON object: their contents in base64, and their states.

    The workers use them if they run as a user who may not read the files. Nothing is read again: this process may have
    become such a user, too.
    """
    used = list(sources)
    return {
        "files": {path: b64encode(data).decode("ascii") for source in used for path, data in source.contents.items()},
        "file_states": {path: state for source in used for path, state in source.states.items()},
    }


def load_files(found: Mapping[str, Any]) -> Files:
    """
    Return the files of which `dump_files` has returned the JSON object.

    Args:
        found: the object; an older supervisor may have sent only a part of it.
    """
    return Files(
        {path: b64decode(text) for path, text in found.get("files", {}).items()},
        {path: state and tuple(state) for path, state in found.get("file_states", {}).items()},
    )

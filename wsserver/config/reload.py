"""
Reload: combine the settings of a running server with new ones.

This module does not use Twisted, a clock or files.
"""

import dataclasses

from wsserver.config.settings import TABLE, Settings

__all__ = ["combine"]


def combine(running: Settings, new: Settings) -> tuple[Settings, tuple[str, ...]]:
    """
    Return the settings that a running server can change to, and the options that it cannot change.

    A listener that serves TLS continues to do so, and a listener without TLS does not begin to: the options `tls_cert`
    and `tls_key` can name other files, but not be set or removed.

    Args:
        running: the settings in use.
        new: the settings that are wanted.

    Returns:
        The new settings, except that the options which need a restart keep their values; and the flags of those options
        whose values differ.

    Raises:
        SettingError: the combination is invalid.
    """
    kept = [option for option in TABLE.values() if getattr(running, option.name) != getattr(new, option.name)]
    if bool(running.tls_cert) == bool(new.tls_cert):
        kept = [option for option in kept if not option.reload]
    else:
        kept = [option for option in kept if not option.reload or option.name.startswith("tls_")]
    values = {option.name: getattr(running, option.name) for option in kept}
    return dataclasses.replace(new, **values), tuple(option.flag for option in kept)

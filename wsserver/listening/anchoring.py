"""
Make the relative paths of the options absolute when the program starts.

twistd changes its working directory: to that of `--rundir`. The server reads the files again later, when they are
renewed, and all options after SIGHUP.
"""

import os
from dataclasses import replace
from typing import Any

from wsserver.config.settings import Settings
from wsserver.listening.endpoint_strings import anchor_endpoint

__all__ = ["anchor"]


def anchor(settings: Settings, directory: str) -> Settings:
    """
    Return settings in which all paths of files are absolute, also those in endpoint strings.

    Args:
        settings: the settings.
        directory: the directory that relative paths start from.
    """
    anchored: dict[str, Any] = {
        name: os.path.join(directory, path) for name in ("tls_cert", "tls_key") if (path := getattr(settings, name))
    }
    if settings.token_public_key and "-----BEGIN" not in settings.token_public_key:
        anchored["token_public_key"] = os.path.join(directory, settings.token_public_key)
    for name in ("listen", "admin_listen"):
        anchored[name] = tuple(anchor_endpoint(text, directory) for text in getattr(settings, name))
    differing = {name: value for name, value in anchored.items() if value != getattr(settings, name)}
    return replace(settings, **differing) if differing else settings

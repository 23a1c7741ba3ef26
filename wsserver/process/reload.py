"""Reload the options of a server process, and log what has happened in one line."""

import json
from collections.abc import Callable

from twisted.logger import Logger

from wsserver.config.settings import Settings
from wsserver.errors import WsserverError

__all__ = ["reload_options"]

_log = Logger(namespace="wsserver")


def reload_options(load: Callable[[], Settings], reload: Callable[[Settings], tuple[str, ...]]) -> bool:
    """
    Read the options again, and change to them; if one is invalid, log the reason and change nothing.

    Args:
        load: reads the options.
        reload: changes to them; see `wsserver.service.WebSocketService.reload`.

    Returns:
        Whether the options are valid.
    """
    try:
        differing = reload(load())
    except (WsserverError, OSError) as error:
        _log.error("options not reloaded reason={reason}", reason=json.dumps(str(error)))
        return False
    _log.info("options reloaded")
    if differing:
        _log.warn("options changed that need a restart names={names}", names=",".join(differing))
    return True

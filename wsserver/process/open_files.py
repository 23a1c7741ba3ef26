"""Raise the limit of open files, for processes that only run the server."""

import resource

from twisted.logger import Logger

__all__ = ["raise_limit"]

_log = Logger(namespace="wsserver")


def raise_limit() -> None:
    """
    Raise the soft limit of open files to the hard limit; worker processes inherit it.

    Many systems have a soft limit of 1024, because of programs that use select(), and a much higher hard limit. With
    1024, the server would lower `--max-connections` to about 900.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        # macOS permits less than its hard limit, which is infinite. The server warns if the soft limit is too low.
        return
    _log.info("limit of open files raised limit={hard} before={soft}", hard=hard, soft=soft)

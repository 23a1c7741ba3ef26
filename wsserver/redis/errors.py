"""
Explanations of the error replies of Redis, for operators.

This module does not use Twisted, a clock or a socket.
"""

import re

__all__ = ["describe_reply", "is_refused_command"]

_MEANINGS = {
    "READONLY": "Redis is a read-only replica and refuses writes; name the master in --redis",
    "MISCONF": "Redis cannot save its data to disk and refuses writes",
    "OOM": "Redis is out of memory (maxmemory) and refuses writes",
    "NOREPLICAS": "Redis has too few replicas (min-replicas-to-write) and refuses writes",
    "CLUSTERDOWN": "the Redis Cluster is down",
    "MOVED": "Redis is part of a cluster, which is not supported",
    "CROSSSLOT": "Redis is part of a cluster, which is not supported",
    "LOADING": "Redis is still loading its data",
    "MASTERDOWN": "Redis is a replica that has lost its master",
    "BUSY": "Redis is busy with a script",
    "NOPERM": "the user in --redis lacks a permission",
    "NOAUTH": "Redis requires a password; give it in --redis, as in redis://:PASSWORD@HOST",
    "WRONGPASS": "Redis refuses the password; check user and password in --redis",
    "DENIED": "Redis is in protected mode and refuses connections from other machines",
    "ERR invalid password": "Redis refuses the password; check the password in --redis",
    "ERR AUTH <password> called without": "--redis has a password, but Redis requires none",
    "ERR Client sent AUTH": "--redis has a password, but Redis requires none",
    "ERR DB index": "Redis has no such database; check the number at the end of --redis",
    "ERR The user executing the script": "the user in --redis lacks a permission that publishing needs",
    "ERR ACL failure in script": "the user in --redis lacks a permission that publishing needs",
    "ERR max number of clients": "Redis has too many clients (maxclients)",
}
"""Beginning of an error reply -> what the reply means, and what the operator has to check."""

_UNKNOWN_COMMAND = re.compile(r"ERR unknown command ['`]?([^'`,]{1,40})")
_UNKNOWN_IN_SCRIPT = re.compile(r"Unknown Redis command called from (?:Lua )?script")
# If a command is unknown, the error reply repeats its arguments. Those of AUTH include the password.
_ARGUMENTS = re.compile(r",? with args beginning with:.*", re.DOTALL)
_SCRIPT = re.compile(r"\.? script: [0-9a-f]+, (?:on )?@user_script:\d+\.?$")


def describe_reply(reply: str) -> str:
    """
    Describe an error reply of Redis in words that an operator understands.

    Args:
        reply: the error reply, for example `READONLY You can't write against a read only replica.`

    Returns:
        What the reply means and what to check, followed by the reply itself, without the arguments of the command.
    """
    shown = _SCRIPT.sub("", _ARGUMENTS.sub("", reply)).rstrip()
    if unknown := _UNKNOWN_COMMAND.match(reply):
        return f"Redis does not know the command {unknown[1].upper()}, which may have been renamed: {shown}"
    if _UNKNOWN_IN_SCRIPT.search(reply):
        return f"a command that publishing needs may have been renamed in Redis: {shown}"
    meaning = next((meaning for start, meaning in _MEANINGS.items() if reply.startswith(start)), None)
    return f"{meaning or 'Redis replied'}: {shown}"


def is_refused_command(reply: str) -> bool:
    """Return whether an error reply means that the user may not run the command, or that Redis does not know it."""
    return reply.startswith("NOPERM") or _UNKNOWN_COMMAND.match(reply) is not None

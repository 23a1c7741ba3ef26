"""Run a command whose children may be another user, although the interpreter is in a directory of the superuser."""

import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from paths import ROOT

__all__ = ["searchable"]

SCRIPT = """
set -e
closed=$1; stage=$2; shift 2
number=0
for path in $NEEDED; do
    number=$((number + 1)); mkdir "$stage/$number"; mount --bind "$path" "$stage/$number"
done
mount -t tmpfs -o mode=755 tmpfs "$closed"
number=0
for path in $NEEDED; do
    number=$((number + 1)); mkdir -p "$path"; mount --bind "$stage/$number" "$path"
done
exec "$@"
"""


def _closed(path: Path) -> Iterator[Path]:
    """Return the directories above a path that other users may not search, the outermost first."""
    for parent in reversed(path.parents):
        if not parent.stat().st_mode & stat.S_IXOTH:
            yield parent


def searchable(command: list[str], stage: Path) -> list[str]:
    """
    Return a command that runs another one such that every user may run the interpreter and import the project.

    If the directories do not permit this, the command runs in a mount namespace of its own, in which the outermost
    closed directory contains only what is needed.

    Args:
        command: the command.
        stage: an empty directory for mounts.
    """
    needed = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), ROOT.resolve()}
    closed = {path: next(_closed(path), None) for path in needed}
    outermost = {directory for directory in closed.values() if directory is not None}
    if not outermost:
        return command
    (directory,) = outermost
    paths = " ".join(str(path) for path, above in closed.items() if above is not None)
    shell = ["sh", "-c", SCRIPT, "sh", str(directory), str(stage), *command]
    return ["unshare", "--mount", "env", f"NEEDED={paths}", *shell]

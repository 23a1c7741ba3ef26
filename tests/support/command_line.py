"""The program `wsserver` and an environment to run it in."""

import os
import sys
from pathlib import Path

__all__ = ["PROGRAM", "environment"]

PROGRAM = str(Path(sys.executable).parent / "wsserver")


def environment(**more):
    """Return this process's environment without any setting of wsserver."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WSSERVER_")}
    return kept | {"PYTHONUNBUFFERED": "1"} | more

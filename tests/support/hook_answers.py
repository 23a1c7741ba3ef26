"""Answers of a backend to messages of clients, for tests of the endpoints without a backend."""

import json
from typing import Any

from wsserver.hooks.messages import read_answered

__all__ = ["URL", "answered"]

URL = "http://backend.invalid/"
"""The URL of hooks that no test calls."""


def answered(**fields: Any) -> Any:
    """Return the backend's answer with these fields, as the hooks return it."""
    return read_answered(json.dumps({"result": fields}).encode())

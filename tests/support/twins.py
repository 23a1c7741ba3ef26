"""Both implementations of the transports and of TLS, compiled and in Python, for tests that run with each of them."""

import importlib.util

import pytest

from wsserver.wire import frames, poller, tls, transport


def _without_extension(name):
    spec = importlib.util.find_spec(name)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "COMPILED", False)
        spec.loader.exec_module(module)
    return module


TRANSPORTS = {"python": _without_extension("wsserver.wire.transport")}
"""Implementation -> its module of transports."""

TLS = {"python": _without_extension("wsserver.wire.tls")}
"""Implementation -> its module of TLS."""

SERVE = {"python": poller.py_serve}
"""Implementation -> its function that reads events and processes them."""

SERVE_EVENT = {"python": poller.py_serve_event}
"""Implementation -> its function that processes the events of one descriptor."""

if frames.COMPILED:
    TRANSPORTS["compiled"] = transport
    TLS["compiled"] = tls
    SERVE["compiled"] = frames.SPEEDUPS.serve
    SERVE_EVENT["compiled"] = frames.SPEEDUPS.serve_event

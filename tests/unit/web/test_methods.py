"""Tests for wsserver/web/methods.py: the methods of the HTTP API, called with arbitrary parameters."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsserver.config.settings import Settings
from wsserver.hub.deferreds import as_deferred
from wsserver.testing import MemoryServer
from wsserver.web.methods import Methods, Problem

NAMES = [
    *("publish", "broadcast", "subscribe", "unsubscribe", "disconnect", "refresh", "presence", "presence_stats"),
    *("history", "history_remove", "channels", "connections", "info", "nothing"),
]

TEXTS = st.text(max_size=5) | st.sampled_from(["a", "room", "*", "wsserver:x", "\ud800", "/wA=", "x" * 300])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
PARAMETERS = st.dictionaries(
    st.sampled_from(
        [
            *("channel", "channels", "data", "b64data", "tags", "idempotency_key", "skip_history", "limit", "since"),
            *("reverse", "pattern", "user", "client", "disconnect", "whitelist", "expire_at", "expired", "info"),
            *("recover_since", "version", "session", "new", "delta"),
        ]
    ),
    VALUES,
    max_size=6,
)


class Called:
    """A server in memory whose API methods can be called."""

    def __init__(self):
        self.server = MemoryServer(Settings(channel_presence=("room",)))
        self._methods = Methods(self.server.service.hub, self.server.service.management)

    def __call__(self, name, parameters):
        """Call a method; return its result or problem."""
        found = []
        as_deferred(self._methods.call(name, json.dumps(parameters).encode())).addCallback(found.append)
        while not found:
            self.server.clock.advance(0.1)
        return found[0]


class ArbitraryParametersTests:
    """Calls with arbitrary parameters."""

    @given(name=st.sampled_from(NAMES), parameters=PARAMETERS)
    @settings(max_examples=500, deadline=None)
    def test_return_a_json_object_or_a_problem_with_400_404_or_416(self, name, parameters):
        """Arbitrary parameters can cause errors of the caller only, never of the server."""
        found = CALL(name, parameters)
        if isinstance(found, Problem):
            assert found.status in (400, 404, 416)
            json.dumps(found.as_json()).encode()
            assert found.message
        else:
            assert isinstance(json.loads(found.body), dict)

    @pytest.mark.parametrize("name", [*NAMES, "__init__", ""])
    def test_missing_ones_are_a_problem_except_for_channels_connections_and_info(self, name):
        found = CALL(name, {})
        assert isinstance(found, Problem) is (name not in ("channels", "connections", "info"))


CALL = Called()

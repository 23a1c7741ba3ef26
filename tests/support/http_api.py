"""Requests to a test server's HTTP API, and to `/ready`."""

import json

from peers import wait_until

__all__ = ["KEY", "api", "ok", "ready", "up"]

KEY = "secret"


def ready(server):
    """Tell what `/ready` says."""
    with server.connect() as peer:
        return peer.request("/ready").status


def up(server):
    """Wait until publications arrive."""
    wait_until(lambda: ready(server) == 200, "ready")
    return server


def api(server, method, body, *headers, key=KEY):
    """Call the API; returns the status and the answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with server.connect() as peer:
        lines = (*((f"X-API-Key: {key}",) if key else ()), *headers)
        response = peer.request(f"/api/{method}", *lines, method="POST", body=data)
        return response.status, json.loads(response.body)


def ok(server, method, body):
    """Call the API, and give the result."""
    status, answer = api(server, method, body)
    assert status == 200, answer
    return answer["result"]

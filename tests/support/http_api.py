"""Requests to a test server's HTTP API, and to `/ready`."""

import json

from waiting import wait_until

__all__ = ["KEY", "api", "ok", "ready", "up"]

KEY = "secret"


def ready(server):
    """Return the status of `/ready`."""
    with server.connect() as peer:
        return peer.request("/ready").status


def up(server):
    """Wait until the server is ready; return it."""
    wait_until(lambda: ready(server) == 200, "ready")
    return server


def api(server, method, body, *headers, key=KEY):
    """Call the API; return the status and the response's JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with server.connect() as peer:
        lines = (*((f"X-API-Key: {key}",) if key else ()), *headers)
        response = peer.request(f"/api/{method}", *lines, method="POST", body=data)
        return response.status, json.loads(response.body)


def ok(server, method, body):
    """Call the API, which must succeed; return the result."""
    status, answer = api(server, method, body)
    assert status == 200, answer
    return answer["result"]

"""Tests for wsserver/wire/rejects.py: the last refused requests, and that floods do not displace those of others."""

from http import HTTPStatus

import pytest
from twisted.internet.task import Clock

from wsserver.wire.access_log import AccessLog
from wsserver.wire.counters import Counters
from wsserver.wire.http11 import Refusal
from wsserver.wire.rejects import MAX_REJECTS, Rejects
from wsserver.wire.timers import Deadlines

REASON = "origin 'https://x' is not allowed; to allow it, start the server with --origin https://x"


def add(rejects, *, peer="192.0.2.1:1", path="/ws", status=403, cause="origin", reason=REASON):
    rejects.add(peer=peer, path=path, status=status, cause=cause, reason=reason)


def test_describes_a_refusal_with_the_option_that_its_reason_names():
    rejects = Rejects()
    add(rejects)
    (one,) = rejects.describe()
    assert one.pop("time") == one.pop("first_time") > 1.7e9
    assert one == {
        "count": 1,
        "peer": "192.0.2.1:1",
        "path": "/ws",
        "status": 403,
        "cause": "origin",
        "reason": REASON,
        "options": ["--origin"],
    }


def test_a_refusal_that_a_client_repeats_is_one_entry_and_displaces_no_other():
    rejects = Rejects()
    add(rejects, peer="192.0.2.2:1")
    for port in range(5 * MAX_REJECTS):
        add(rejects, peer=f"192.0.2.1:{port}")
    assert [(one["peer"], one["count"]) for one in rejects.describe()] == [
        (f"192.0.2.1:{5 * MAX_REJECTS - 1}", 5 * MAX_REJECTS),
        ("192.0.2.2:1", 1),
    ]


@pytest.mark.parametrize("hosts", [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::5"), ("::1", "::2")])
def test_addresses_without_a_port_are_different_ones(hosts):
    """A proxy names them in X-Forwarded-For, most often without a port."""
    rejects = Rejects()
    for host in hosts:
        add(rejects, peer=host)
        add(rejects, peer=f"[{host}]:5000" if ":" in host else f"{host}:5000")
    assert [one["count"] for one in rejects.describe()] == [2, 2]


def test_keeps_the_last_thousand():
    rejects = Rejects()
    for number in range(MAX_REJECTS + 7):
        add(rejects, path=f"/{number}")
    paths = [one["path"] for one in rejects.describe()]
    assert paths == [f"/{number}" for number in range(MAX_REJECTS + 6, 6, -1)]


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("no API key: send the server's --api-key, or the client's --api-key", ["--api-key"]),
        ("path '--origin' is unknown; see --catch-all", ["--catch-all"]),
        ('"--origin" is unknown', []),
        ("use --no-such-option", []),
    ],
)
def test_only_options_of_the_server_outside_of_quotes_are_listed(reason, options):
    """What is in quotes was sent by the client."""
    rejects = Rejects()
    add(rejects, reason=reason)
    assert rejects.describe()[0]["options"] == options


def test_the_access_log_keeps_refusals_that_it_does_not_log():
    log = AccessLog(Counters(), Deadlines(Clock()), 1)
    for path in ("/a", "/b"):
        log.refused(Refusal(HTTPStatus.FORBIDDEN, "why"), number=None, peer="192.0.2.1:1", path=path)
    log.refused(None, number=7, peer="192.0.2.1:1", path=None)
    assert [(one["path"], one["cause"], one["status"]) for one in log.rejects.describe()] == [
        (None, "client_closed", None),
        ("/b", "forbidden", 403),
        ("/a", "forbidden", 403),
    ]

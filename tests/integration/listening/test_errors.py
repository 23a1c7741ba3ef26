"""Tests for wsserver/listening/errors.py: the message for each error that a real endpoint raises."""

import os
import re
import socket

import pytest
from twisted.internet import reactor
from twisted.internet.protocol import Factory

from wsserver.errors import ListenError
from wsserver.listening.errors import describe_listen_error
from wsserver.listening.ports import Listener

pytestmark = pytest.mark.kernel

NUMBER = "expected a port number from 0 to 65535"
KINDS = "tcp:, unix:, ssl:, tls:, systemd: or haproxy:"


def refusal(endpoint):
    """Listen on an endpoint that must fail; return the error message without its prefix."""
    with pytest.raises(ListenError) as caught:
        Listener(endpoint, reactor).open(Factory())
    message = str(caught.value)
    assert message.startswith(f"cannot listen on {endpoint}: ")
    assert "\n" not in message
    return message.removeprefix(f"cannot listen on {endpoint}: ")


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("tcp:abc", f"{NUMBER}, not 'abc'"),
        ("tcp:port=http", f"{NUMBER}, not 'http'"),
        ("tcp:65536", f"{NUMBER}, not '65536'"),
        ("tcp:-1", f"{NUMBER}, not '-1'"),
        ("tcp6:abc", f"{NUMBER}, not 'abc'"),
        ("haproxy:tcp:abc", f"{NUMBER}, not 'abc'"),
        ("tcp", f"the port is missing; {NUMBER}, as in tcp:8080"),
        ("tcp:", f"the port is missing; {NUMBER}, as in tcp:8080"),
        ("tcp:0:backlog=many", "backlog: expected a whole number, not 'many'"),
        ("unix:/tmp/x:mode=rw", "mode: expected octal permissions such as 660, not 'rw'"),
        ("tcp:0:speed=1", "tcp: has no parameter 'speed'"),
        ("tcp:0:port=1", "tcp: has two values for 'port'"),
        ("tcp:0:127.0.0.1:5:6", "tcp: has too many values"),
        ("unix", "unix: needs a value for 'address'"),
        ("unix:", "unix: needs a value for 'address'"),
        ("nonsense:0", f"'nonsense' is not an endpoint type; expected {KINDS}, as in tcp:8080:interface=127.0.0.1"),
        ("localhost:8080", f"'localhost' is not an endpoint type; expected {KINDS}, as in tcp:8080:interface="),
        ("haproxy:tpc:0", f"'tpc' is not an endpoint type; expected {KINDS}, as in tcp:8080:interface=127.0.0.1"),
        ("tcp:0:interface=192.0.2.1", "no network interface of this machine has this address"),
        ("systemd:domain=INET:index=0", "systemd has not passed this socket to the process"),
        ("systemd:domain=INET:name=web", "systemd has not passed this socket to the process"),
        ("systemd:INET", "expected a domain and an index or a name: systemd:domain=INET:index=0 or"),
        ("systemd", "expected a domain and an index or a name: systemd:domain=INET:index=0 or"),
        ("systemd:domain=TCP:index=0", "domain: expected INET, INET6 or UNIX, not 'TCP'"),
        ("systemd:domain=INET:index=x", "index: expected a whole number, not 'x'"),
        ("unix:/nowhere/at/all.sock", "No such file or directory; the socket's directory does not exist"),
    ],
)
def test_names_the_parameter_and_quotes_its_value(endpoint, message):
    assert message in refusal(endpoint)


def test_an_empty_socket_path_leaves_no_lock_file_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refusal("unix:")
    assert not os.listdir(tmp_path)


def test_a_port_in_use_names_the_command_that_finds_its_user():
    """Every message begins with the endpoint, so the port need not be repeated."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        assert re.search(
            "Address already in use; another program listens on this port; .*ss -ltnp.* --port or --listen",
            refusal(endpoint),
        )


@pytest.mark.parametrize("number", [1, 13])
def test_a_privileged_port_names_root_and_the_capability(number):
    """Root, as in a container, may listen on every port, so the test makes the error itself."""
    error = PermissionError(number, os.strerror(number))
    assert describe_listen_error("tcp:80", error) == (
        f"{os.strerror(number)}; a port below 1024 needs root or CAP_NET_BIND_SERVICE; choose a higher one"
    )


def test_keeps_the_text_of_any_other_error_or_names_its_type():
    """Endpoints are plugins and may raise any error."""
    assert describe_listen_error("other:1", RuntimeError("the moon is full")) == "the moon is full"
    assert describe_listen_error("other:1", RuntimeError()) == "RuntimeError"
    assert describe_listen_error("tcp:1:interface=x", socket.gaierror(-2, "Name unknown")) == "Name unknown"

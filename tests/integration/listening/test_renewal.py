"""A certificate that is renewed while clients are connected, for every kind of TLS listener."""

import ssl
import subprocess

import pytest
from peers import RawPeer
from waiting import wait_until

WAYS = {
    "options": lambda live: {"tls_cert": f"{live}/fullchain.pem", "tls_key": f"{live}/privkey.pem"},
    "ssl": lambda live: {
        "listen": (f"ssl:0:privateKey={live}/privkey.pem:certKey={live}/fullchain.pem:interface=127.0.0.1",)
    },
    "tls": lambda live: {"listen": (f"tls:{live}:0:interface=127.0.0.1",)},
}


def switch(live, own):
    """Switch the links of a directory to the files of a certificate one after the other, as certbot does."""
    for name in ("privkey.pem", "fullchain.pem"):
        link = live / f"{name}.new"
        link.symlink_to(own.leaf.parent / name)
        link.replace(live / name)


@pytest.fixture
def live(tmp_path, authority):
    live = tmp_path / "live"
    live.mkdir()
    switch(live, authority.issue(tmp_path / "archive1"))
    return live


@pytest.mark.parametrize("way", WAYS)
def test_the_next_handshake_gets_the_new_certificate_and_no_client_is_dropped(
    start_server, authority, live, tmp_path, way
):
    """Python and OpenSSL both verify the new chain."""
    server = start_server(**WAYS[way](live))
    context = ssl.create_default_context(cafile=authority.root)

    def served():
        with RawPeer(server.port, tls=context) as peer:
            return int(peer.socket.getpeercert()["serialNumber"], 16)

    before = served()
    clients = [server.open(tls=context) for _ in range(10)]
    own = authority.issue(tmp_path / "archive2")
    switch(live, own)
    wait_until(lambda: served() == own.certificate.serial_number, "the new certificate")
    assert before != own.certificate.serial_number
    assert all(client.echoes() for client in clients)
    shown = subprocess.run(
        [
            "openssl",
            "s_client",
            "-connect",
            f"127.0.0.1:{server.port}",
            "-CAfile",
            authority.root,
            "-verify_return_error",
        ],
        input=b"",
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert b"Verify return code: 0 (ok)" in shown.stdout
    for client in clients:
        client.socket.close()

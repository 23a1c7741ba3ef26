"""T35: TLS: old versions, weak ciphers, a renewed certificate, and names that are not the server's."""

import random
import shutil
import socket
import ssl
import subprocess
import time

import pytest
from arena import withstand
from attackers import connect
from peers import RawPeer

WEAK = ["RC4", "3DES", "aNULL", "eNULL", "EXPORT", "DES", "MD5", "PSK", "SRP", "kRSA", "AES128-SHA", "CAMELLIA", "SEED"]
CBC = ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES128-SHA"]


@pytest.fixture
def files(authority, tmp_path):
    """Return the folder of a certificate."""
    authority.issue(tmp_path / "live")
    return tmp_path / "live"


@pytest.fixture
def secure(start_server, files):
    """Start a server with TLS."""
    return start_server("--tls-cert", str(files / "fullchain.pem"), "--tls-key", str(files / "privkey.pem"))


def context(authority, **options):
    made = ssl.create_default_context(cafile=str(authority.root))
    for name, value in options.items():
        setattr(made, name, value)
    return made


def accepts(server, client):
    """Return whether a TLS handshake succeeds."""
    try:
        with client.wrap_socket(connect(server.port), server_hostname="localhost") as sock:
            sock.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            return b" 200 " in sock.recv(1000)
    except OSError:
        return False


def test_t35_old_versions_and_weak_ciphers_are_refused(secure, authority, figures):
    """TLS 1.0 and 1.1, and ciphers without forward secrecy or authenticated encryption, are refused."""
    accepted = []
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        old = context(authority)
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = old.maximum_version = version
        accepted += [version.name] if accepts(secure, old) else []
    for cipher in (*WEAK, *CBC):
        weak = context(authority, maximum_version=ssl.TLSVersion.TLSv1_2)
        try:
            weak.set_ciphers(f"{cipher}:@SECLEVEL=0")
        except ssl.SSLError:
            continue  # This OpenSSL does not have it.
        accepted += [cipher] if accepts(secure, weak) else []
    figures.at_most(0, len(accepted), "old versions and weak ciphers accepted", "", accepted)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert accepts(secure, context(authority, minimum_version=version, maximum_version=version)), version


def s_client(server, authority, *options, text=b""):
    """Return the output of `openssl s_client` after it has sent a text to the server."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile", str(authority.root), *options]
    done = subprocess.run(command, input=text, capture_output=True, check=False, timeout=30)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def test_t35_renegotiation_and_early_data_are_refused(secure, authority, tmp_path):
    """A renegotiation in TLS 1.2 ends in an error. The sessions of TLS 1.3 permit no early data."""
    # The letter R alone in a line makes openssl renegotiate.
    said = s_client(secure, authority, "-tls1_2", "-no_ign_eof", text=b"R\n")
    assert "RENEGOTIATING" in said, said
    assert "no renegotiation" in said, said
    request, session = tmp_path / "request", str(tmp_path / "session")
    request.write_bytes(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    said = s_client(secure, authority, "-tls1_3", "-sess_out", session, "-ign_eof", text=request.read_bytes())
    assert "Max Early Data: 0" in said, said
    said = s_client(secure, authority, "-tls1_3", "-sess_in", session, "-early_data", str(request))
    assert "Early data was not sent" in said, said


def serial(server, authority):
    """Return the serial number of the certificate that the server sends."""
    with context(authority).wrap_socket(connect(server.port), server_hostname="localhost") as sock:
        return sock.getpeercert()["serialNumber"]


@pytest.mark.waits
def test_t35_a_renewed_certificate_is_served(secure, authority, files, figures):
    """A renewed certificate is served to the next handshake within 2 s, and no connection is dropped."""
    old = serial(secure, authority)
    with RawPeer(secure.port, tls=context(authority)) as peer:
        peer.handshake("/echo")
        new = authority.issue(files.parent / "new")
        (files / "fullchain.pem").write_bytes(new.fullchain.read_bytes()[:500])
        time.sleep(1.5)
        assert serial(secure, authority) == old, "half a certificate is not used"
        shutil.copy(new.privkey, files / "privkey.pem")
        shutil.copy(new.fullchain, files / "fullchain.pem")
        begin = time.monotonic()
        while serial(secure, authority) == old and time.monotonic() < begin + 30:
            time.sleep(0.05)
        figures.at_most(2, time.monotonic() - begin, "time until the new certificate is served", "s")
        assert peer.echoes()


def random_names(port, seconds):
    """Start TLS handshakes with random server names, a thousand a second at most; return how many."""
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    count, begin = 0, time.monotonic()
    while time.monotonic() < begin + seconds:
        name = f"{random.getrandbits(60):x}.evil.example"
        with socket.create_connection(("127.0.0.1", port)) as sock, client.wrap_socket(sock, server_hostname=name):
            count += 1
        time.sleep(max(0, begin + count / 1000 - time.monotonic()))
    return count


def test_t35_unknown_names_delay_nobody(start_server, files, figures, full):
    """Handshakes with random server names, as many as a client can start, do not delay others."""
    from ports import free_port

    plain, port = free_port(), free_port()
    tls = f"ssl:{port}:privateKey={files / 'privkey.pem'}:certKey={files / 'fullchain.pem'}:interface=127.0.0.1"
    server = start_server("--listen", f"tcp:{plain}:interface=127.0.0.1", "--listen", tls)
    server.port = plain
    measured = withstand(server, figures, lambda _, seconds: random_names(port, seconds), 6 if full else 1.5)
    assert measured.result > 10

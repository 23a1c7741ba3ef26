"""Clients accept the certificates that docs/how-to/tls.md makes, and the page's table lists the logged reasons."""

import re
import ssl
import subprocess

from paths import DOCS
from peers import RawPeer

from wsserver.config.settings import TABLE
from wsserver.wire import request_reader, tls_server

PAGE = (DOCS / "how-to" / "tls.md").read_text()


def shell_blocks() -> list[str]:
    """Return the blocks of shell commands."""
    return re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


class CommandTests:
    """The commands that a reader copies."""

    def test_the_openssl_commands_make_a_certificate_that_strict_clients_accept(self, start_server, tmp_path):
        """Strict clients check the key usage, as Python does since 3.13."""
        (commands,) = [block for block in shell_blocks() if block.startswith("openssl")]
        subprocess.run(["sh", "-eu", "-c", commands], cwd=tmp_path, check=True, capture_output=True)
        server = start_server(tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem"))
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        with RawPeer(server.port, tls=context) as peer:
            assert peer.request("/ready").status == 200

    def test_the_server_options_in_the_commands_exist(self):
        known = {option.flag for option in TABLE.values()}
        words = " ".join(re.findall(r"(?:wsserver serve|wsserver) ([^`]*)", "\n".join(shell_blocks())))
        assert set(re.findall(r"(?<!\S)--[a-z-]+", words)) >= {"--tls-cert", "--tls-key", "--listen"}
        assert set(re.findall(r"--(?:tls|port|listen|interface|origin|open)[a-z-]*", PAGE)) <= known


class ReasonTests:
    """The table of reasons for failed TLS handshakes."""

    def test_the_table_lists_every_reason_of_the_server(self):
        reasons = [*tls_server._REASONS.values(), tls_server._PLAIN.reason]
        shown = [row.partition("...")[0].strip() for row in re.findall(r"^\| `(.*?)` \|", PAGE, re.MULTILINE)]
        for reason in reasons:
            assert any(reason.startswith(start) for start in shown), reason
        assert request_reader._TLS_ON_PLAIN in " ".join(PAGE.split())

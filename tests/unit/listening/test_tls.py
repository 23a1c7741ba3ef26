"""Tests for wsserver/listening/tls.py: endpoint strings and options, and the errors for those that are invalid."""

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from wsserver.config.settings import Settings
from wsserver.errors import ListenError, SettingError
from wsserver.listening.ports import make_listeners
from wsserver.listening.tls import parse_tls_endpoint, tls_of_settings


@pytest.fixture(scope="module")
def issued(authority, tmp_path_factory):
    return authority.issue(tmp_path_factory.mktemp("issued") / "own")


class EndpointTests:
    """Endpoint strings."""

    def test_returns_none_for_strings_of_other_kinds(self):
        """Twisted itself parses strings of other kinds."""
        for text in ("tcp:80", "unix:/run/ws.sock", "haproxy:tcp:80", "systemd:domain=INET:index=0"):
            assert parse_tls_endpoint(text, Clock()) is None

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("ssl:0", "privateKey: cannot read 'server.pem': No such file or directory"),
            ("ssl:0:privateKey={0}/no.pem", "privateKey: cannot read '{0}/no.pem': No such file or directory"),
            ("ssl:0:privateKey={0}/privkey.pem:certKey={0}/no.pem", "certKey: cannot read '{0}/no.pem': No such file"),
            ("ssl:0:privateKey={0}/no.pem:certKey={0}/cert.pem", "privateKey: cannot read '{0}/no.pem': No such file"),
            ("ssl:0:privateKey={0}/fullchain.pem", "privateKey: expected the file of the private key, as "),
            ("ssl:x:{0}/privkey.pem:{0}/cert.pem", "port: expected a whole number from 0 to 65535, not 'x'"),
            ("ssl:0:{0}/privkey.pem:{0}/cert.pem:backlog=0", "backlog: expected a whole number from 1 to "),
            ("ssl:0:{0}/privkey.pem:{0}/cert.pem:extraCertChain={0}/no.pem", "extraCertChain: cannot read "),
            ("ssl:0:{0}/privkey.pem:{0}/cert.pem:sslmethod=TLSv1_METHOD", "sslmethod is not supported"),
            ("ssl:0:{0}/privkey.pem:{0}/cert.pem:dhParameters={0}/cert.pem", "OpenSSL rejects the certificate in "),
            ("ssl:0:key={0}/privkey.pem", "got an unexpected keyword argument 'key'"),
            ("ssl:", "port: expected a whole number from 0 to 65535, not ''"),
            ("tls:{0}/no", "'{0}/no' is not a directory"),
            ("tls:{0}:port=x", "port: expected a whole number from 0 to 65535, not 'x'"),
            ("haproxy:ssl:0", "privateKey: cannot read 'server.pem': No such file or directory"),
        ],
    )
    def test_the_error_names_the_endpoint_the_argument_and_the_problem(self, issued, text, problem):
        folder = str(issued.leaf.parent)
        text = text.replace("{0}", folder)
        with pytest.raises(ListenError) as raised:
            make_listeners(Settings(listen=(text,)), Clock())
        assert str(raised.value).startswith(f"cannot listen on {text}: {problem.replace('{0}', folder)}")


class OptionTests:
    """`--tls-cert` and `--tls-key`."""

    def test_there_is_no_tls_without_the_options(self):
        assert tls_of_settings(Settings()) is None

    def test_the_key_may_be_in_the_file_of_the_certificate(self, issued):
        assert tls_of_settings(Settings(tls_cert=str(issued.fullchain), tls_key=str(issued.privkey))) is not None
        both = issued.fullchain.with_name("both.txt")
        both.write_bytes(issued.fullchain.read_bytes() + issued.privkey.read_bytes())
        assert tls_of_settings(Settings(tls_cert=str(both))) is not None

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"tls_key": "KEY"}, "--tls-key: requires --tls-cert"),
            ({"tls_cert": "CERT"}, "--tls-key: expected the file of the private key, as 'CERT' does not contain it"),
            ({"tls_cert": "no", "tls_key": "KEY"}, "--tls-cert: cannot read 'no': No such file or directory"),
            ({"tls_cert": "CERT", "tls_key": "no"}, "--tls-key: cannot read 'no': No such file or directory"),
            ({"tls_cert": "CERT", "tls_key": "KEY", "listen": ("tcp:0",)}, "--tls-cert: applies only to --"),
        ],
    )
    def test_the_error_names_the_option_and_the_problem(self, issued, options, problem):
        files = {"CERT": str(issued.fullchain), "KEY": str(issued.privkey)}
        given_options = {name: files.get(value, value) for name, value in options.items()}
        with pytest.raises(SettingError) as raised:
            make_listeners(Settings(**given_options), Clock())
        assert str(raised.value).startswith(problem.replace("CERT", files["CERT"]))

    def test_the_error_for_a_rejected_key_has_the_reason_of_openssl(self, authority, tmp_path, monkeypatch):
        """OpenSSL rejects an RSA key of 1024 bits as too small."""
        monkeypatch.setattr("pki.make_key", lambda kind: rsa.generate_private_key(65537, 1024))
        weak = authority.issue(tmp_path / "weak")
        with pytest.raises(
            SettingError, match=r"^--tls-cert: OpenSSL rejects the certificate in .*: ee key too small$"
        ):
            tls_of_settings(Settings(tls_cert=str(weak.fullchain), tls_key=str(weak.privkey)))

    def test_an_expired_certificate_is_used_with_a_warning(self, authority, tmp_path):
        """A server that is restarted at night must not stay down because of it."""
        own = authority.issue(tmp_path / "own", days=-1)
        lines = []
        globalLogPublisher.addObserver(lines.append)
        try:
            assert tls_of_settings(Settings(tls_cert=str(own.fullchain), tls_key=str(own.privkey))) is not None
        finally:
            globalLogPublisher.removeObserver(lines.append)
        (line,) = [formatEvent(event) for event in lines if event["log_namespace"] == "wsserver"]
        assert line.startswith(f'invalid certificate file="{own.fullchain}" reason="it expired on ')

"""
TLS listeners: from `--tls-cert`, and from the endpoint strings `ssl:` and `tls:`.

Both kinds of endpoint strings take the same parameters as in Twisted, but Twisted's parsers are not used: `ssl:` sends
only the first certificate of `certKey`, both send the wrong alert if client and server share no ALPN protocol, and
neither names a missing file.
"""

import inspect
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from OpenSSL import SSL
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger

from wsserver.config.parsers import an_integer
from wsserver.config.settings import Settings
from wsserver.errors import ListenError, SettingError
from wsserver.listening.endpoint_strings import BEHIND_PROXY, parse_endpoint
from wsserver.listening.renewal import CertificateSource, Loaded
from wsserver.logging import LINE
from wsserver.wire.certificates import (
    CertificateError,
    ServerCertificate,
    describe_validity,
    read_chain,
    read_directory,
    read_server_certificate,
)
from wsserver.wire.handed_files import find_files
from wsserver.wire.tls_server import make_context, select_by_name

__all__ = ["TLSEndpoint", "parse_tls_endpoint", "tls_of_settings"]

# A module variable, because on a class Twisted replaces the namespace with the class's name.
_log = Logger(namespace="wsserver")

TLSEndpoint = tuple[IStreamServerEndpoint, CertificateSource]
"""An endpoint that accepts TCP connections, and the certificates of the TLS connections on them."""


def tls_of_settings(settings: Settings) -> CertificateSource | None:
    """
    Return the certificate for `--interface` and `--port`; None without `--tls-cert`.

    Raises:
        SettingError: a file cannot be used, `--tls-key` is given without `--tls-cert`, or `--tls-cert` with `--listen`.
    """
    if not settings.tls_cert:
        if settings.tls_key:
            raise SettingError("--tls-key", "requires --tls-cert")
        return None
    if settings.listen:
        raise SettingError(
            "--tls-cert",
            "applies only to --interface and --port; with --listen, use ssl:PORT:privateKey=FILE:certKey=FILE",
        )
    cert, key = settings.tls_cert, settings.tls_key

    def load() -> Loaded:
        try:
            return _load(read_server_certificate(cert, key), cert)
        except CertificateError as error:
            raise SettingError("--tls-key" if error.of_key else "--tls-cert", str(error)) from None

    return CertificateSource(cert, lambda: (cert, key) if key else (cert,), load)


def parse_tls_endpoint(text: str, reactor: Any) -> TLSEndpoint | None:
    """
    Parse an endpoint string of the kind `ssl:` or `tls:`, with or without the prefix `haproxy:`.

    Args:
        text: the endpoint string.
        reactor: the reactor to listen with.

    Returns:
        The endpoint and its certificates; None if the string is of another kind.

    Raises:
        ListenError: a parameter is missing or invalid, or a file cannot be used.
    """
    # HAProxy sends its header before the TLS handshake that it passes on.
    where = parse_endpoint(text.removeprefix(BEHIND_PROXY))
    parsers: dict[str, Callable[..., TLSEndpoint]] = {"ssl": _parse_ssl, "tls": _parse_tls}
    parser = parsers.get(where.kind)
    if parser is None:
        return None
    try:
        bound = inspect.signature(parser).bind(text, reactor, *where.arguments, **where.options)
        return parser(*bound.args, **bound.kwargs)
    except (CertificateError, TypeError, ValueError) as error:
        raise ListenError(text, str(error)) from None


def _parse_ssl(  # noqa: PLR0917 (Twisted accepts all of them by position too)
    text: str,
    reactor: Any,
    port: str,
    privateKey: str = "server.pem",
    certKey: str = "",
    sslmethod: str = "",
    interface: str = "",
    backlog: str = "50",
    extraCertChain: str = "",
    dhParameters: str = "",
) -> TLSEndpoint:
    numbers = _numbers(port, backlog)
    if sslmethod:
        raise ValueError("sslmethod is not supported: the server speaks TLS 1.2 and newer")
    files = [file for file in (certKey, privateKey, extraCertChain, dhParameters) if file]

    def load() -> Loaded:
        certificate = _read_pair(certKey, privateKey)
        if extraCertChain:
            more = [c for c in _named("extraCertChain", read_chain, extraCertChain) if c not in certificate.chain]
            certificate = ServerCertificate((*certificate.chain, *more), certificate.key)
        return _load(certificate, certKey or privateKey, dhParameters)

    source = CertificateSource(certKey or privateKey, lambda: files, _for_endpoint(text, load))
    return TCP4ServerEndpoint(reactor, *numbers, interface), source


def _read_pair(certificate: str, key: str) -> ServerCertificate:
    """Read the files of `certKey` and `privateKey`; without `certKey`, `privateKey` contains both."""
    try:
        return read_server_certificate(certificate or key, key if certificate else "")
    except CertificateError as error:
        raise ValueError(f"{'certKey' if certificate and not error.of_key else 'privateKey'}: {error}") from None


def _parse_tls(  # noqa: PLR0917
    text: str, reactor: Any, path: str, port: str = "443", backlog: str = "50", interface: str = "::"
) -> TLSEndpoint:
    numbers = _numbers(port, backlog)
    source = CertificateSource(path, lambda: find_files(path), _for_endpoint(text, lambda: _load_directory(path)))
    return TCP6ServerEndpoint(reactor, *numbers, interface), source


def _load_directory(path: str) -> Loaded:
    found = [(names, _load(certificate, path)) for names, certificate in read_directory(path)]
    contexts: dict[str, SSL.Context] = {}
    for names, loaded in found:
        for name in names:
            contexts.setdefault(name, loaded.context)
    default = found[0][1].context
    select_by_name(contexts, default)
    return Loaded(default, min(loaded.expires for _, loaded in found))


def _for_endpoint(text: str, load: Callable[[], Loaded]) -> Callable[[], Loaded]:
    """Return a function that loads the files of an endpoint string, and names the string if they cannot be used."""

    def load_or_name() -> Loaded:
        try:
            return load()
        except (CertificateError, ValueError) as error:
            raise ListenError(text, str(error)) from None

    return load_or_name


def _named(name: str, read: Callable[[str], Any], path: str) -> Any:
    try:
        return read(path)
    except CertificateError as error:
        raise ValueError(f"{name}: {error}") from None


def _numbers(port: str, backlog: str) -> tuple[int, int]:
    found = []
    for name, text, low, high in (("port", port, 0, 65535), ("backlog", backlog, 1, 2**31 - 1)):
        try:
            found.append(an_integer(low, high)(text))
        except ValueError as error:
            raise ValueError(f"{name}: {error}, not {text!r}") from None
    return found[0], found[1]


def _load(certificate: ServerCertificate, path: str, dh_parameters: str = "") -> Loaded:
    problem = describe_validity(certificate.chain[0], datetime.now(UTC))
    if problem is not None:
        line = f"invalid certificate file={json.dumps(path)} reason={json.dumps(problem)}"
        _log.warn(LINE, line=line, file=path, reason=problem)
    try:
        return Loaded(make_context(certificate, dh_parameters), certificate.chain[0].not_valid_after_utc)
    except SSL.Error as error:
        reason = error.args[0][0][-1] if error.args and error.args[0] else "unknown reason"
        where = f" or the parameters in {dh_parameters!r}" if dh_parameters else ""
        raise CertificateError(f"OpenSSL rejects the certificate in {path!r}{where}: {reason}") from None

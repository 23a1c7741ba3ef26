"""Step `tls` of `wsserver doctor`: the TLS handshake as a browser does it, and why it fails."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from wsserver.cli.doctor.chain import fetch_chain
from wsserver.cli.doctor.report import Report, Step, describe_error, failed, passed, warned
from wsserver.cli.doctor.stream import Dialer, wrap
from wsserver.errors import SettingError

__all__ = ["check_tls", "make_context", "speaks_tls"]

SOON = timedelta(days=14)
"""A certificate that expires within this time is reported: certbot renews 30 days before."""

# Verification errors of OpenSSL (x509_vfy.h).
NOT_YET_VALID, EXPIRED = 9, 10
SELF_SIGNED, UNKNOWN_ROOT, NO_ISSUER, ONLY_LEAF = 18, 19, 20, 21
WRONG_NAME, WRONG_ADDRESS = 62, 64

INVALID = (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What a malformed certificate raises; it is parsed when its parts are read."""

HTTP_AS_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
"""Reasons of OpenSSL if the answer is not TLS."""


def make_context(ca: str | None) -> ssl.SSLContext:
    """
    Return a TLS context as a browser's: the authorities of the system, TLS 1.2 or newer.

    For WebSocket, browsers offer only `http/1.1` by ALPN, although they offer `h2` for pages.

    Args:
        ca: a PEM file with further authorities; None for none.

    Raises:
        SettingError: the file cannot be read.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if ca is not None:
        try:
            context.load_verify_locations(ca)
        except (OSError, ValueError) as error:
            why = "expected certificates in PEM format" if isinstance(error, ssl.SSLError) else error.args[-1]
            raise SettingError("--ca", f"cannot read {ca!r}: {why}") from None
    return context


def check_tls(dialer: Dialer, ca: str | None, report: Report) -> bool:
    """
    Do the TLS handshake, and report the step `tls`.

    If only the certificate is wrong, the dialer then connects without verification, so that the other steps can be
    examined.

    Returns:
        Whether a TLS connection is possible.
    """
    context = make_context(ca)
    try:
        with wrap(dialer.connect(), context, dialer.target.host) as connection:
            report.add(describe_good(connection))
        dialer.context = context
    except ssl.SSLCertVerificationError as error:
        report.add(explain_certificate(error, dialer, ca))
        dialer.context = unverified()
    except OSError as error:
        report.add(explain_handshake(error, dialer))
    return dialer.context is not None


def unverified() -> ssl.SSLContext:
    """Return a context that accepts any certificate, to look at the server behind it."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def speaks_tls(dialer: Dialer) -> bool:
    """Return whether the port speaks TLS, although the URL does not."""
    try:
        wrap(dialer.connect(), unverified(), dialer.target.host).close()
    except OSError:
        return False
    return True


def describe_good(connection: ssl.SSLSocket) -> Step:
    """Describe a connection whose certificate is valid."""
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str((connection.getpeercert() or {})["notAfter"])), UTC)
    left = ends - datetime.now(UTC)
    alpn = connection.selected_alpn_protocol()
    shown = f"{connection.version()}, ALPN {alpn or 'not used'}, certificate valid until {ends:%Y-%m-%d}"
    if left < SOON:
        fix = "renew it, and check why the renewal did not happen: `certbot renew --dry-run`; see --tls-cert"
        return warned("tls", f"{shown}, which is in {left.days} days", fix)
    return passed("tls", f"{shown}, chain complete and trusted")


def explain_certificate(error: ssl.SSLCertVerificationError, dialer: Dialer, ca: str | None) -> Step:
    """Explain why the certificate is not accepted."""
    try:
        if chain := fetch_chain(dialer):
            return _explain_certificates(error.verify_code, chain, dialer, ca)
    except INVALID:
        return failed("tls", f"the certificate is invalid: {error.verify_message}", "issue a new one for --tls-cert")
    return failed("tls", f"the certificate is not accepted: {error.verify_message}", "check --tls-cert")


def _explain_certificates(code: int, chain: list[x509.Certificate], dialer: Dialer, ca: str | None) -> Step:
    leaf = chain[0]
    if code == EXPIRED:
        expired = next((c for c in chain if c.not_valid_after_utc < datetime.now(UTC)), leaf)
        finding = f"the certificate {_name(expired)} expired on {expired.not_valid_after_utc:%Y-%m-%d}"
        return failed("tls", finding, "renew it (certbot renew), and let the server or proxy load the new --tls-cert")
    if code == NOT_YET_VALID:
        finding = f"the certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        return failed("tls", finding, "set the clock of this machine, or of the one that issued the certificate")
    if code in (WRONG_NAME, WRONG_ADDRESS):
        finding = f"the certificate is for {', '.join(_names(leaf)) or 'no name'}, not for {dialer.target.host}"
        return failed("tls", finding, f"connect to one of these names, or issue a certificate for {dialer.target.host}")
    return _explain_chain(code, chain, ca)


def _explain_chain(code: int, chain: list[x509.Certificate], ca: str | None) -> Step:
    leaf, top = chain[0], chain[-1]
    if code == SELF_SIGNED or leaf.subject == leaf.issuer:
        finding = f"the certificate {_name(leaf)} is self-signed, so browsers and SDKs refuse it"
        return failed(
            "tls", finding, "use a certificate of an authority, such as Let's Encrypt; to test it, use --ca FILE"
        )
    if len(chain) == 1 and code in (NO_ISSUER, ONLY_LEAF) and not _is_root(ca, leaf.issuer):
        finding = f"the server sends only its own certificate; that of its issuer, {_issuer(leaf)}, is missing"
        fix = (
            "send the whole chain: name fullchain.pem, not cert.pem, in --tls-cert or in ssl_certificate of nginx; "
            "for a private authority, use --ca FILE"
        )
        return failed("tls", finding, fix)
    finding = f"the authority {_issuer(top)} is not trusted by this system"
    return failed("tls", finding, "for a private authority, use --ca FILE, and install it on the clients")


def _is_root(ca: str | None, name: x509.Name) -> bool:
    """Return whether a file of authorities contains one of this name."""
    if ca is None:
        return False
    return any(one.subject == name for one in x509.load_pem_x509_certificates(Path(ca).read_bytes()))


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *INVALID):
        return []
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return (found.get_values_for_type(x509.DNSName) + addresses)[:10]


def _name(certificate: x509.Certificate) -> str:
    return repr(certificate.subject.rfc4514_string() or ", ".join(_names(certificate)))


def _issuer(certificate: x509.Certificate) -> str:
    return repr(certificate.issuer.rfc4514_string())


def explain_handshake(error: OSError, dialer: Dialer) -> Step:
    """Explain why there is no TLS connection."""
    # Python names only those reasons that it knows.
    reason = (getattr(error, "reason", None) or str(error)).upper().replace(" ", "_")
    target = dialer.target
    if reason in HTTP_AS_TLS:
        fix = (
            f"connect to ws://{target.host_header}{target.path}, or let the server speak TLS: --tls-cert and --tls-key"
        )
        return failed("tls", f"port {target.port} does not speak TLS, but plain HTTP", fix)
    if "NO_APPLICATION_PROTOCOL" in reason:
        fix = "let the server or proxy accept http/1.1 too, as browsers offer only this for WebSocket"
        return failed("tls", "the server refuses the ALPN protocol http/1.1", fix)
    if "PROTOCOL_VERSION" in reason or "UNSUPPORTED_PROTOCOL" in reason:
        return failed(
            "tls", "the server speaks neither TLS 1.2 nor TLS 1.3", "permit both: `ssl_protocols TLSv1.2 TLSv1.3;`"
        )
    if "UNRECOGNIZED_NAME" in reason:
        fix = f"configure a certificate for {target.host} (SNI)"
        return failed("tls", f"the server has no certificate for {target.host}", fix)
    why = describe_error(error)
    fix = f"check that port {target.port} is the TLS port, and its certificate and ciphers: `openssl s_client`"
    return failed("tls", f"the TLS handshake failed: {why}", fix)

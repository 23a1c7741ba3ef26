"""Error messages for endpoints that the server cannot listen on: what is wrong and how to fix it."""

import errno
import re
from collections.abc import Callable

from wsserver.listening.endpoint_strings import EndpointString, parse_endpoint

__all__ = ["describe_error", "describe_listen_error"]

_PORT = "expected a port number from 0 to 65535"
_WITH_PORT = {"tcp", "tcp6", "ssl", "tls"}
_KINDS = "tcp:, unix:, ssl:, tls:, systemd: or haproxy:"


def describe_error(error: object) -> str:
    """Return an exception's message without the error number; the name of its type if it has no message."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def describe_listen_error(endpoint: str, error: object) -> str:
    """
    Return why the server cannot listen on an endpoint, and how to fix it.

    Args:
        endpoint: the Twisted endpoint string.
        error: the exception that Twisted raised when it parsed the string or opened the port; or its message.
    """
    where = parse_endpoint(endpoint)
    if isinstance(error, OSError):
        # The error numbers of name look-ups are not errno values.
        advice = _ADVICE.get(error.errno or 0) if type(error).__name__ != "gaierror" else None
        return f"{describe_error(error)}{'; ' if advice else ''}{advice(where) if advice else ''}"
    for describe in (_unknown_kind, _locked, _missing_port, _wrong_number, _wrong_systemd, _wrong_parameter):
        if (text := describe(where, error)) is not None:
            return text
    return describe_error(error)


def _unknown_kind(where: EndpointString, error: object) -> str | None:
    unknown = re.fullmatch("Unknown endpoint type: '(.*)'", str(error))
    if unknown is None:
        return None
    if where.kind in {"http", "https", "ws", "wss"}:
        return (
            f"{where.kind!r} is not an endpoint type; use tcp:PORT, or ssl:PORT for TLS: both serve HTTP and WebSocket"
        )
    return f"{unknown[1]!r} is not an endpoint type; expected {_KINDS}, as in tcp:8080:interface=127.0.0.1"


def _locked(where: EndpointString, error: object) -> str | None:
    if where.kind != "unix" or str(error) != "Cannot acquire lock":
        return None
    return (
        f"{where.get('address', 0)}.lock belongs to a running process; if that process is not a server, remove the file"
    )


def _missing_port(where: EndpointString, error: object) -> str | None:
    if where.kind not in _WITH_PORT or not isinstance(error, ValueError | TypeError | ArithmeticError):
        return None
    port = where.get("port", 0)
    if not port:
        return f"the port is missing; {_PORT}, as in {where.kind}:8080"
    is_valid = port.isascii() and port.isdecimal() and int(port[:9]) < 2**16
    return None if is_valid else f"{_PORT}, not {port!r}"


def _wrong_number(where: EndpointString, error: object) -> str | None:
    if not isinstance(error, ValueError) or "invalid literal for int()" not in str(error):
        return None
    for name, value in where.options.items():
        if name == "mode":
            if not re.fullmatch("[0-7]+", value):
                return f"mode: expected octal permissions such as 660, not {value!r}"
        elif name in {"backlog", "lockfile", "index"} and not value.isdecimal():
            return f"{name}: expected a whole number, not {value!r}"
    return None


def _wrong_systemd(where: EndpointString, error: object) -> str | None:
    if where.kind != "systemd":
        return None
    domain = where.get("domain", 0)
    if domain not in {None, "INET", "INET6", "UNIX"}:
        return f"domain: expected INET, INET6 or UNIX, not {domain!r}"
    if isinstance(error, LookupError):
        return (
            "systemd has not passed this socket to the process; use systemd: only in a service that a .socket unit "
            "starts, otherwise tcp: or unix:"
        )
    if isinstance(error, AttributeError | TypeError | ValueError | AssertionError):
        return "expected a domain and an index or a name: systemd:domain=INET:index=0 or systemd:domain=INET:name=NAME"
    return None


def _wrong_parameter(where: EndpointString, error: object) -> str | None:
    if not isinstance(error, TypeError):
        return None
    if unknown := re.search(r"unexpected keyword argument '(.*)'", str(error)):
        return f"{where.kind}: has no parameter {unknown[1]!r}"
    if missing := re.search(r"missing \d+ required positional arguments?: '(.*?)'", str(error)):
        return f"{where.kind}: needs a value for {missing[1]!r}"
    if twice := re.search(r"multiple values for argument '(.*)'", str(error)):
        return f"{where.kind}: has two values for {twice[1]!r}"
    return f"{where.kind}: has too many values" if "positional argument" in str(error) else None


def _in_use(where: EndpointString) -> str:
    if where.kind == "unix":
        return "another program listens on this socket; stop it or choose another path with --listen"
    return (
        "another program listens on this port; stop it (`ss -ltnp` names it) or choose another port with --port or "
        "--listen"
    )


def _not_permitted(where: EndpointString) -> str:
    if where.kind == "unix":
        return "the directory must be writable, and a socket file of another user must be removed first"
    return "a port below 1024 needs root or CAP_NET_BIND_SERVICE; choose a higher one"


def _no_such_address(where: EndpointString) -> str:  # noqa: ARG001
    return "no network interface of this machine has this address; `ip address` lists them, 0.0.0.0 stands for all"


def _missing_directory(where: EndpointString) -> str | None:
    return "the socket's directory does not exist" if where.kind == "unix" else None


_ADVICE: dict[int, Callable[[EndpointString], str | None]] = {
    errno.EADDRINUSE: _in_use,
    errno.EACCES: _not_permitted,
    errno.EPERM: _not_permitted,
    errno.EADDRNOTAVAIL: _no_such_address,
    errno.ENOENT: _missing_directory,
}

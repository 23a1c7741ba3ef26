"""Steps `dns` and `tcp` of `wsserver doctor`: resolve the host, and try each of its addresses."""

import errno
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from wsserver.cli.doctor.report import Report, describe_error, failed, passed, warned
from wsserver.cli.doctor.stream import CONNECT_TIMEOUT
from wsserver.cli.urls import Target

__all__ = ["find_address"]

MAX_ADDRESSES = 8
"""Maximum number of addresses to try."""

NO_ROUTE = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Errors that say that this machine has no IPv6."""


def find_address(target: Target, report: Report) -> str | None:
    """Resolve the host and try its addresses; return the first that accepts a connection, or None."""
    addresses = resolve(target, report)
    return try_addresses(target, addresses, report) if addresses else None


def resolve(target: Target, report: Report) -> list[str]:
    """Return the addresses of the host, and report the step `dns`."""
    [found] = run_in_threads([lambda: socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)])
    if isinstance(found, Exception):
        why = "no answer in time" if isinstance(found, TimeoutError) else str(found.args[-1]).lower()
        fix = f"check the spelling of {target.host}, and its A and AAAA records: `getent ahosts {target.host}`"
        report.add(failed("dns", f"cannot resolve {target.host}: {why}", fix))
        return []
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))[:MAX_ADDRESSES]
    if addresses != [target.host]:
        report.add(passed("dns", f"{target.host} is {', '.join(addresses)}"))
    return addresses


def try_addresses(target: Target, addresses: Sequence[str], report: Report) -> str | None:
    """Connect to every address at the same time, and report the step `tcp`."""
    tries = [lambda address=address: _connect(address, target.port) for address in addresses]
    results = dict(zip(addresses, run_in_threads(tries), strict=True))
    good = [address for address, error in results.items() if error is None]
    bad = {address: error for address, error in results.items() if error is not None}
    if not good:
        finding = f"no connection to port {target.port}: {_list(bad)}"
        report.add(failed("tcp", finding, _what_to_check(target, bad)))
        return None
    # An address of a family that this machine does not have says nothing about the server.
    bad = {a: e for a, e in bad.items() if not (":" in a and getattr(e, "errno", None) in NO_ROUTE)}
    if not bad:
        report.add(passed("tcp", f"port {target.port} is open on {', '.join(good)}"))
    else:
        fix = "clients that try this address first wait or fail: listen on it too (--listen), or remove its DNS record"
        report.add(warned("tcp", f"port {target.port} is open on {', '.join(good)}, but not on {_list(bad)}", fix))
    return good[0]


def _list(errors: dict[str, OSError]) -> str:
    """Return addresses with their errors."""
    return "; ".join(f"{address}: {describe_error(error)}" for address, error in errors.items())


def _connect(address: str, port: int) -> None:
    socket.create_connection((address, port), CONNECT_TIMEOUT).close()


def _what_to_check(target: Target, errors: dict[str, OSError]) -> str:
    if any(isinstance(error, ConnectionRefusedError) for error in errors.values()):
        return (
            f"nothing listens on port {target.port}: start the server, or check its --port; "
            "the default --interface accepts connections of the same machine only"
        )
    return f"a firewall may drop the packets: permit TCP port {target.port}, and check the address"


def run_in_threads(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """
    Call functions at the same time; return the result of each, its exception, or a TimeoutError.

    The threads are not waited for: `getaddrinfo` cannot be interrupted.
    """
    results: list[Any] = [TimeoutError() for _ in functions]

    def call(number: int) -> None:
        try:
            results[number] = functions[number]()
        except OSError as error:
            results[number] = error
        except UnicodeError:
            results[number] = OSError("not a valid host name")

    threads = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(CONNECT_TIMEOUT + 1)
    return results

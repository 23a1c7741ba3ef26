"""The command line that all servers in this folder have in common."""

import argparse
import logging
import ssl

__all__ = ["MAX_SIZE", "read", "tls"]

MAX_SIZE = 2 * 1024 * 1024
"""Maximum message size in bytes, for libraries that limit it. The largest messages of the benchmark have 1 MiB."""


def read() -> argparse.Namespace:
    """
    Parse the command line.

    A server enables only the features that are requested, even if its library's defaults differ.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--compression", action="store_true", help="agree to permessage-deflate")
    parser.add_argument("--ping", type=float, metavar="SECONDS", help="ping idle connections")
    parser.add_argument("--cert", metavar="FILE")
    parser.add_argument("--key", metavar="FILE")
    # A load that ends resets its connections, which some libraries would report once for each of them.
    logging.disable(logging.CRITICAL)
    return parser.parse_args()


def tls(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    """Return the TLS context, or None without `--cert`."""
    if arguments.cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(arguments.cert, arguments.key)
    return context

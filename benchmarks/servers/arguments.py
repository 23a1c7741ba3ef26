"""What every server of this folder is told on its command line."""

import argparse
import logging
import ssl

__all__ = ["MAX_SIZE", "read", "tls"]

MAX_SIZE = 2 * 1024 * 1024
"""Largest message, where a server wants to be told one: room for the row with 1 MiB."""


def read() -> argparse.Namespace:
    """Read the command line. What isn't asked for stays off, whatever the library's default."""
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
    """Make the TLS context, if the server is to have one."""
    if arguments.cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(arguments.cert, arguments.key)
    return context

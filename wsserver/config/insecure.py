"""
Insecure options: which of them are set, and whether the server may start with them.

This module does not use Twisted, a clock or files.
"""

import ipaddress
from typing import TYPE_CHECKING

from wsserver.errors import SettingError

if TYPE_CHECKING:
    from wsserver.config.settings import Settings

__all__ = ["describe_insecure_options", "refuse_exposed_interface", "refuse_exposure"]

_LOOPBACK_ONLY = ("insecure", "api_insecure")
"""Options for development: with them, everyone who can reach the server controls it."""

_WARNINGS = {
    "insecure": "clients need no token, and may use every channel; for development only (--insecure)",
    "api_insecure": "the HTTP API accepts calls without a key; for development only (--api-insecure)",
    "token_no_expiry": "tokens without exp are accepted, and are valid until the key is replaced (--token-no-expiry)",
    "token_secret_weak": "short secrets are permitted, and can be guessed from a token (--token-secret-weak)",
}
"""Name of an insecure option -> its effect."""

_ANY_PAGE = "every page that a browser on this machine shows can use every channel (--allow-any-origin-insecure)"
"""The effect of two insecure options together."""


def describe_insecure_options(settings: "Settings") -> list[str]:
    """Return a sentence for the log for each insecure option that is set."""
    warnings = [warning for name, warning in _WARNINGS.items() if getattr(settings, name)]
    return [*warnings, _ANY_PAGE] if settings.insecure and settings.allow_any_origin_insecure else warnings


def refuse_exposed_interface(settings: "Settings") -> None:
    """
    Check the option `interface` as `refuse_exposure` does, before the server listens.

    Host names and endpoint strings are not checked: what they mean is known when the server listens.

    Raises:
        SettingError: other machines can reach the server, and an option is for development only.
    """
    try:
        is_loopback = ipaddress.ip_address(settings.interface).is_loopback
    except ValueError:
        is_loopback = True
    refuse_exposure(settings, loopback_only=is_loopback or bool(settings.listen))


def refuse_exposure(settings: "Settings", *, loopback_only: bool) -> None:
    """
    Check that a server with options for development is not reachable from other machines.

    Args:
        settings: the server's options.
        loopback_only: whether every listener is reachable from this machine only.

    Raises:
        SettingError: other machines can reach the server, and an option is for development only.
    """
    if loopback_only and not settings.trusted_proxy:
        return
    for name in _LOOPBACK_ONLY:
        if getattr(settings, name):
            raise SettingError(
                "--" + name.replace("_", "-"),
                "expected every listener to be a loopback address, such as --interface 127.0.0.1, and no "
                "--trusted-proxy; a UNIX socket and a port with the PROXY protocol do not count as loopback",
            )

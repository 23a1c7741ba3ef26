"""Build the token verifier from the options. Imports PyJWT, an optional dependency, only if needed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from wsserver.auth.verifier import Tokens
from wsserver.config.loader import require_libraries
from wsserver.config.settings import Settings
from wsserver.errors import SettingError

if TYPE_CHECKING:
    from wsserver.auth.jwks import JWKS

__all__ = ["tokens_of"]


def tokens_of(
    settings: Settings,
    reactor: Any,
    consume: "Callable[[str, float], Deferred[bool]] | None" = None,
    current: "JWKS | None" = None,
) -> "tuple[Tokens | None, JWKS | None]":
    """
    Build the verifier of client tokens from the options.

    Args:
        settings: the server's options.
        reactor: the reactor on which the JWKS is fetched.
        consume: consumes one-time tokens, see `Tokens`.
        current: the fetcher that a running server uses; see `make_tokens`.

    Returns:
        The verifier, or None if the options name no key; and the JWKS fetcher, which the caller starts and stops, or
        None without `--token-jwks-url`.

    Raises:
        SettingError: a key is invalid, or PyJWT is not installed.
    """
    if not (settings.token_secret or settings.token_public_key or settings.token_jwks_url):
        if settings.token_secret_previous:
            raise SettingError("--token-secret-previous", "expected --token-secret to be set as well")
        return None, None
    require_libraries(settings)
    # PyJWT is an optional dependency.
    from wsserver.auth.jwks import make_tokens  # noqa: PLC0415

    return make_tokens(settings, reactor, consume, current)

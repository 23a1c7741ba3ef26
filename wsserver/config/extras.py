"""Optional dependencies: libraries that only some options need, installed as extras of the package."""

from importlib.util import find_spec

from wsserver.config.settings import Settings
from wsserver.errors import SettingError

__all__ = ["require"]


def require(settings: Settings) -> None:
    """
    Check that the libraries the settings need are installed.

    Args:
        settings: the settings the server is to run with.

    Raises:
        SettingError: a library is missing; the message says how to install it.
    """
    if settings.redis and find_spec("txredisapi") is None:
        raise SettingError("redis", "needs txredisapi (the extra [redis]): pip install txredisapi hiredis")
    for name in ("token_secret", "token_public_key", "token_jwks_url"):
        if getattr(settings, name) and find_spec("jwt") is None:
            raise SettingError(name, "needs PyJWT (the extra [auth]): pip install 'PyJWT[crypto]'")

"""The libraries that only some options need: extras of the package."""

from importlib.util import find_spec

from wsserver.config.settings import Settings
from wsserver.errors import SettingError

__all__ = ["require"]


def require(settings: Settings) -> None:
    """
    Check that what the settings need is installed.

    Raises:
        SettingError: something is not; the message says how to get it.
    """
    if settings.redis and find_spec("txredisapi") is None:
        raise SettingError("redis", "needs txredisapi (the extra [redis]): pip install txredisapi hiredis")
    for name in ("token_secret", "token_public_key", "token_jwks_url"):
        if getattr(settings, name) and find_spec("jwt") is None:
            raise SettingError(name, "needs PyJWT (the extra [auth]): pip install 'PyJWT[crypto]'")

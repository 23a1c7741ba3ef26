"""The options of the log, as `wsserver.logging` takes them."""

from wsserver.config.settings import Settings
from wsserver.logging import LogSettings

__all__ = ["log_settings"]


def log_settings(settings: Settings) -> LogSettings:
    """Return the options of the log."""
    return LogSettings(
        settings.log_format,
        settings.log_level,
        settings.log_max_rate,
        settings.log_max_size,
        settings.log_max_files,
    )

"""The defaults of all options, and helpers to load options from given sources."""

import re

import pytest

from wsserver.config.genconfig import genconfig
from wsserver.config.settings import Settings
from wsserver.errors import SettingError

__all__ = ["DEFAULTS", "load", "one", "refused", "uncommented"]

load = Settings.load


DEFAULTS = {
    "port": 8080,
    "interface": "127.0.0.1",
    "listen": (),
    "admin_listen": (),
    "workers": 1,
    "tls_cert": "",
    "tls_key": "",
    "trusted_proxy": (),
    "trusted_proxy_header": "x-forwarded-for",
    "origin": (),
    "api_origin": (),
    "allow_any_origin_insecure": False,
    "max_message_size": 1024 * 1024,
    "max_connections": 10_000,
    "max_request_head": 16 * 1024,
    "max_request_body": 64 * 1024,
    "max_fragments": 1024,
    "message_timeout": 30.0,
    "max_connections_per_address": 1000,
    "handshake_rate_per_address": 100,
    "message_rate": 0,
    "byte_rate": 0,
    "rate_action": "throttle",
    "command_rate": 0,
    "max_channels_per_client": 128,
    "max_queued_age": 30.0,
    "max_connections_per_user": 100,
    "open_timeout": 10.0,
    "close_timeout": 5.0,
    "keepalive_timeout": 75.0,
    "ping_interval": 25.0,
    "ping_timeout": 10.0,
    "drain_code": 1012,
    "drain_jitter": 5.0,
    "drain_timeout": 30.0,
    "subprotocol": (),
    "compression": "off",
    "compression_context_takeover": "off",
    "compression_window_bits": 15,
    "compression_min_size": 128,
    "redis": "",
    "channel_allow": (),
    "channel_format": "raw",
    "max_queued_bytes": 1024 * 1024,
    "gap": "notice",
    "slow": "close",
    "history_size": 100,
    "history_ttl": 60.0,
    "channel_publish": (),
    "channel_presence": (),
    "personal_channel": "",
    "channel": (),
    "api_key": "",
    "api_errors": "status",
    "api_insecure": False,
    "hook_connect": "",
    "hook_subscribe": "",
    "hook_publish": "",
    "hook_rpc": "",
    "hook_message": "",
    "hook_message_raw": False,
    "hook_disconnect": "",
    "hook_channel": "",
    "hook_timeout": 2.0,
    "token_secret": "",
    "token_secret_previous": "",
    "token_public_key": "",
    "token_jwks_url": "",
    "token_audience": "",
    "token_issuer": "",
    "token_leeway": 5.0,
    "token_secret_weak": False,
    "token_no_expiry": False,
    "anonymous": False,
    "insecure": False,
    "tap": "auto",
    "max_taps": 100,
    "cases": False,
    "catch_all": "auto",
    "reply_prefix": "",
    "timezone": None,
    "faults": False,
    "fault_timeout": 300.0,
    "max_fault_connections": 100,
    "metrics": "off",
    "log_format": "text",
    "log_level": "info",
    "access_log": "on",
    "log_max_rate": 100,
    "log_max_size": 100 * 1024**2,
    "log_max_files": 10,
}
"""The defaults, as documented."""


def one(name, text):
    """Return one option's value, given as a flag."""
    return getattr(load({name: [text]}), name)


def uncommented():
    """Return the generated configuration file with every option uncommented."""
    options, _, _ = genconfig().partition("# Options for the channels")
    return re.sub(r"(?m)^#(?=[a-z_]+ = )", "", options)


def refused(**sources):
    """Load sources that must be refused; return where the error is and its message."""
    with pytest.raises(SettingError) as caught:
        load(**sources)
    assert str(caught.value) == f"{caught.value.where}: {caught.value.problem}"
    assert "\n" not in str(caught.value)
    return caught.value.where, caught.value.problem

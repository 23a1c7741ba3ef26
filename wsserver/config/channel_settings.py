"""
Options of channels: Redis, subscribing, queues, history, the HTTP API, hooks and client tokens.

Each option is one field. The field is the only place that defines its default, its parser and its help text.
"""

from dataclasses import dataclass

from wsserver.config.limit_settings import LimitSettings
from wsserver.config.options import option
from wsserver.config.parsers import (
    a_channel_prefix,
    a_choice,
    a_duration,
    a_flag,
    a_pattern,
    a_public_key,
    a_redis_url,
    a_secret,
    a_size,
    a_text,
    a_web_url,
    an_integer,
    an_origin,
    show_duration,
    show_size,
)

__all__ = ["CHANNELS", "MAX_REWIND", "ChannelSettings"]

CHANNELS = "Channels"
"""The group of the options that a `[[channel]]` table can set."""

# Precedent: Ably 100.
MAX_REWIND = 100
"""Maximum number of earlier publications that a new subscriber can receive; less than a page of the history."""

_API, _HOOKS, _TOKENS = "HTTP API", "Hooks", "Client tokens"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelSettings(LimitSettings):
    """The options that concern channels; the fourth part of `Settings`."""

    redis: str = option(
        CHANNELS,
        a_redis_url,
        "",
        "URL of the Redis server through which several servers share their channels, such as redis://127.0.0.1:6379; "
        "rediss:// for TLS, redis+sentinel:// for Redis Sentinel. Without this option, channels exist in this process "
        "only.",
        metavar="URL",
        secret=True,
    )
    channel_allow: tuple[str, ...] = option(
        CHANNELS,
        a_pattern,
        (),
        "Channel or pattern, such as chat:*, that clients may subscribe to. Without this option, clients may subscribe "
        "to all channels if only this machine can reach the server (loopback listeners and no --trusted-proxy), and "
        "otherwise to none.",
        metavar="PATTERN",
        many=True,
        reload=True,
    )
    channel_format: str = option(
        CHANNELS,
        a_choice("raw", "json", "redis"),
        "raw",
        "Format of publications on /ws and /sse, if the client does not select one with format= in its URL. raw: the "
        "data as published. json: an object with the channel, the data and the position. redis: an array with the "
        "channel and the data.",
        metavar="raw|json|redis",
        reload=True,
    )
    # Precedents: Centrifugo 1 MB, uWebSockets 64 KiB.
    max_queued_bytes: int = option(
        CHANNELS,
        a_size(1024, 1024**3),
        1024**2,
        "Maximum size of the publications queued for a client that reads too slowly; beyond this, --slow applies.",
        metavar="SIZE",
        show=show_size,
        reload=True,
    )
    slow: str = option(
        CHANNELS,
        a_choice("close", "drop-oldest", "latest"),
        "close",
        "What to do if more than --max-queued-bytes are queued for a client: close the connection with 1013 (3008 for "
        "Centrifuge clients), or drop the oldest publications. With latest, the server queues only the newest "
        "publication of each channel, even below this limit. The client gets a gap notice in place of the dropped "
        "publications.",
        metavar="close|drop-oldest|latest",
        reload=True,
    )
    gap: str = option(
        CHANNELS,
        a_choice("notice", "close"),
        "notice",
        "What to do if a client may have missed publications, for example after an outage of Redis: send the message "
        '{"event":"gap","channel":...} (notice), or close the connection with 1012 (close).',
        metavar="notice|close",
        reload=True,
    )
    # Precedents: Centrifugo's examples 100 and 300s, nchan 10 messages and an hour.
    history_size: int = option(
        CHANNELS,
        an_integer(0, 10_000),
        100,
        "Maximum number of publications that the server keeps for each channel. A client that reconnects receives "
        "those that it missed. 0 disables history.",
        metavar="N",
        reload=True,
    )
    history_ttl: float = option(
        CHANNELS,
        a_duration(1, 30 * 86_400),
        60.0,
        "How long the server keeps the history of a channel after its last publication.",
        metavar="TIME",
        show=show_duration,
        reload=True,
    )
    channel_publish: tuple[str, ...] = option(
        CHANNELS,
        a_pattern,
        (),
        "Channel or pattern that Centrifuge clients may publish to. Without this option, the server accepts "
        "publications only from your backend, and from clients that a token or a hook permits to publish.",
        metavar="PATTERN",
        many=True,
        reload=True,
    )
    channel_presence: tuple[str, ...] = option(
        CHANNELS,
        a_pattern,
        (),
        "Channel or pattern for which the server keeps presence: the list of the subscribed Centrifuge clients.",
        metavar="PATTERN",
        many=True,
        reload=True,
    )
    personal_channel: str = option(
        CHANNELS,
        a_channel_prefix,
        "",
        "Prefix of personal channels, such as # or user:#. The server subscribes each Centrifuge client that has a "
        "user ID to the channel whose name is this prefix and the ID, such as user:#42. Without this option, there are "
        "no personal channels.",
        metavar="PREFIX",
        reload=True,
    )
    api_key: str = option(
        _API,
        a_text,
        "",
        "Key for the HTTP API under /api/, which callers send in the X-API-Key header or as a Bearer token. Without "
        "it, the API is disabled.",
        metavar="KEY",
        secret=True,
        reload=True,
    )
    api_insecure: bool = option(
        _API,
        a_flag,
        False,
        "Accept calls of the HTTP API without a key. Only for development: the server does not start if other "
        "machines can reach it (listeners beyond loopback, or --trusted-proxy). It refuses calls that a proxy has "
        "forwarded, calls with another host name than localhost or a loopback address, and calls from pages of other "
        "origins.",
        reload=True,
    )
    api_origin: tuple[str, ...] = option(
        _API,
        an_origin,
        (),
        "Origin of pages that may call the HTTP API from a browser. Such a page must send the --api-key, which permits "
        "every operation.",
        metavar="ORIGIN",
        many=True,
        reload=True,
    )
    api_errors: str = option(
        _API,
        a_choice("status", "body"),
        "status",
        "How the HTTP API reports errors: with an error in the body and an HTTP status such as 400 (status), or with "
        "an error in the body and the status 200, as Centrifugo's client libraries expect (body).",
        metavar="status|body",
        reload=True,
    )
    hook_connect: str = option(
        _HOOKS,
        a_web_url("http://127.0.0.1:3000/connect"),
        "",
        "URL of the connect hook: if a client has no token, the server asks your backend whether it may connect, and "
        "who the user is. The request is a POST with JSON.",
        metavar="URL",
        reload=True,
        secret=True,
    )
    hook_subscribe: str = option(
        _HOOKS,
        a_web_url("http://127.0.0.1:3000/subscribe"),
        "",
        "URL of the subscribe hook: the server asks whether a client may subscribe to a channel that neither its token "
        "nor --channel-allow permits.",
        metavar="URL",
        reload=True,
        secret=True,
    )
    hook_publish: str = option(
        _HOOKS,
        a_web_url("http://127.0.0.1:3000/publish"),
        "",
        "URL of the publish hook: the server asks whether a client may publish to a channel that neither its token nor "
        "--channel-publish permits, and with which data.",
        metavar="URL",
        reload=True,
        secret=True,
    )
    hook_rpc: str = option(
        _HOOKS,
        a_web_url("http://127.0.0.1:3000/rpc"),
        "",
        "URL of the RPC hook: your backend answers the calls that Centrifuge clients make with rpc(). Without it, they "
        "get error 108.",
        metavar="URL",
        reload=True,
        secret=True,
    )
    hook_message: str = option(
        _HOOKS,
        a_web_url("http://127.0.0.1:3000/message"),
        "",
        "URL of the message hook: your backend receives the messages that Centrifuge clients send with send(). Without "
        "it, the server closes the connection with 3508.",
        metavar="URL",
        reload=True,
        secret=True,
    )
    hook_message_raw: bool = option(
        _HOOKS,
        a_flag,
        False,
        "Also pass the messages of raw subscribers, which are clients of /ws?channel=, to the message hook. Without "
        "this option, the server closes the connection of a raw subscriber that sends a message with 1008.",
        reload=True,
    )
    hook_disconnect: str = option(
        _HOOKS,
        a_web_url("http://127.0.0.1:3000/disconnect"),
        "",
        "URL of the disconnect hook: the server reports that a client has disconnected, once and without retries.",
        metavar="URL",
        reload=True,
        secret=True,
    )
    hook_channel: str = option(
        _HOOKS,
        a_web_url("http://127.0.0.1:3000/channel"),
        "",
        "URL of the channel hook: the server reports that a channel has its first subscriber (occupied), and that it "
        "has had none for 5 s (vacated). Servers that share a Redis count their subscribers together. The server "
        "retries until your backend accepts the report.",
        metavar="URL",
        secret=True,
    )
    # Precedent: Centrifugo 1 s.
    hook_timeout: float = option(
        _HOOKS,
        a_duration(0.1, 30),
        2.0,
        "Maximum time for your backend to answer a hook; then the client gets a temporary error.",
        metavar="TIME",
        show=show_duration,
        reload=True,
    )
    token_secret: str = option(
        _TOKENS,
        a_secret,
        "",
        "Secret that your backend signs client tokens (JWT) with, using HS256; also HS384 if the secret has at least "
        "48 bytes, and HS512 if it has at least 64. If this or another key for tokens is set, clients need a token to "
        "subscribe and to use the Centrifuge protocol. "
        "Set the secret in the environment or in the file, because other users of the machine can read a command line.",
        metavar="SECRET",
        secret=True,
        reload=True,
    )
    token_secret_previous: str = option(
        _TOKENS,
        a_secret,
        "",
        "Previous --token-secret. The server still accepts tokens that were signed with it.",
        metavar="SECRET",
        secret=True,
        reload=True,
    )
    token_secret_weak: bool = option(
        _TOKENS,
        a_flag,
        False,
        "Permit secrets of less than 32 bytes, and any secret for HS384 and HS512. Anyone who has a token can find a "
        "short secret by guessing, and can then sign tokens. Only for moving from a server that has such a secret.",
        reload=True,
    )
    token_public_key: str = option(
        _TOKENS,
        a_public_key,
        "",
        "Public key in PEM, or the path of a PEM file with one or more keys, to verify client tokens with: RSA for "
        "RS256, RS384 and RS512; P-256, P-384 and P-521 for ES256, ES384 and ES512.",
        metavar="PEM|FILE",
        reload=True,
    )
    token_jwks_url: str = option(
        _TOKENS,
        a_web_url("https://example.com/.well-known/jwks.json"),
        "",
        "URL of a JSON Web Key Set with public keys to verify client tokens with. The server requests it at startup, "
        "every ten minutes, and when a token names an unknown key.",
        metavar="URL",
        reload=True,
        secret=True,
    )
    token_audience: str = option(
        _TOKENS,
        a_text,
        "",
        "Audience that the claim aud of a token must contain. Without this option, the server refuses tokens with aud.",
        metavar="TEXT",
        reload=True,
    )
    token_issuer: str = option(
        _TOKENS,
        a_text,
        "",
        "Issuer that the claim iss of a token must equal. Without this option, the server accepts any issuer.",
        metavar="TEXT",
        reload=True,
    )
    # The maximum is less than the 25 s (`GRACE` in wsserver.auth.jwt) after which a connection with an expired token is
    # closed: so no connection is accepted that is already due to be closed.
    token_leeway: float = option(
        _TOKENS,
        a_duration(0, 20),
        5.0,
        "Maximum difference between the clock of the token's issuer and the server's clock.",
        metavar="TIME",
        show=show_duration,
        reload=True,
    )
    token_no_expiry: bool = option(
        _TOKENS,
        a_flag,
        False,
        "Accept tokens without the claim exp. Such a token is valid until the key is replaced, because tokens cannot "
        "be revoked.",
        reload=True,
    )
    anonymous: bool = option(
        _TOKENS,
        a_flag,
        False,
        "Allow clients to connect without a token even if a key for tokens is set. They may subscribe to the channels "
        "of --channel-allow.",
        reload=True,
    )
    insecure: bool = option(
        _TOKENS,
        a_flag,
        False,
        "Allow clients to connect without a token, to subscribe and publish to every channel, and to read its presence "
        "and history. A hook that is set still decides. Only for development: the server does not start if other "
        "machines can reach it (listeners beyond loopback, or --trusted-proxy), and refuses requests that a proxy has "
        "forwarded, or that have another host name than localhost or a loopback address.",
        reload=True,
    )

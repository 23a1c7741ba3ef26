"""Why options of Centrifugo have no counterpart in this server, and which need none."""

from collections.abc import Mapping
from typing import Final

__all__ = ["CHANNEL_REASONS", "NEEDLESS", "REASONS", "find_reason"]

NEEDLESS: Final = (
    "usage_stats",
    "node.name",
    "node.info_metrics_aggregate_interval",
    "client.concurrency",
    "client.presence_update_interval",
    "client.channel_position_check_delay",
    "client.channel_position_max_time_lag",
    "client.token.insecure_skip_jwks_endpoint_safety_check",
    "client.subscription_token.insecure_skip_jwks_endpoint_safety_check",
    "websocket.compression_level",
    "websocket.read_buffer_size",
    "websocket.write_buffer_size",
    "websocket.use_write_buffer_pool",
    "websocket.write_timeout",
    "websocket.decompressed_message_size_limit",
    "engine.redis.connect_timeout",
    "engine.redis.io_timeout",
    "engine.redis.client_name",
    "engine.redis.sentinel_client_name",
    "engine.redis.force_resp2",
    "engine.redis.history_use_lists",
    "engine.redis.presence_ttl",
    "engine.redis.presence_hash_field_ttl",
    "engine.redis.replica_client",
    "broker.redis.connect_timeout",
    "broker.redis.io_timeout",
    "broker.redis.client_name",
    "broker.redis.sentinel_client_name",
    "broker.redis.force_resp2",
    "broker.redis.history_use_lists",
    "broker.redis.replica_client",
    "emulation.max_request_body_size",
    *(
        f"{section}.{name}"
        for section in ("sse", "http_stream", "uni_sse", "uni_http_stream", "uni_websocket")
        for name in (
            "enabled",
            "max_request_body_size",
            "compression",
            "compression_level",
            "compression_min_size",
            "decompressed_message_size_limit",
            "message_size_limit",
            "read_buffer_size",
            "write_buffer_size",
            "use_write_buffer_pool",
            "write_timeout",
        )
    ),
    "enable_unreleased_features",
)
"""Options and sections that tune what this server does in another way, or does not do. They are dropped."""

REASONS: Final[Mapping[str, str]] = {
    "http_server.internal_address": "all paths are served on the same port; restrict /api in your proxy or firewall",
    "http_server.internal_port": "all paths are served on the same port; restrict /api in your proxy or firewall",
    "http_server.internal_tls": "all paths are served on the same port",
    "http_server.tls_autocert": "the server does not obtain certificates; let certbot do so, and set tls_cert",
    "http_server.tls_external": "all paths are served on the same port",
    "http_server.tls": "the server has only a certificate and a key, and does not check those of clients",
    "http_server": "HTTP/1.1 only",
    "log.level": "the log has one level",
    "log.file": "use twistd --logfile, or redirect the output",
    "engine.type": "expected memory or redis",
    "engine.redis.prefix": "the server has its own names in Redis, and does not read what Centrifugo has stored",
    "engine.redis.presence_user_mapping": "presence statistics read the list of clients",
    "engine.redis": "not supported for connections to Redis",
    "broker.type": "expected memory or redis",
    "broker.redis.prefix": "the server has its own names in Redis, and does not read what Centrifugo has stored",
    "broker.redis": "not supported for connections to Redis",
    "broker.nats": "NATS is not supported",
    "broker.postgres": "PostgreSQL is not supported",
    "presence_manager": "presence is stored where the channels are",
    "map_broker": "map subscriptions are not supported",
    "controller": "servers exchange messages through Redis only",
    "shared_poll": "shared poll subscriptions are not supported",
    "client.proxy.refresh": "there is no refresh hook; issue tokens, or let the connection expire and reconnect",
    "client.proxy.connect": "the connect hook does not have this option",
    "client.token.hmac_previous_secret_key_valid_until": "remove token_secret_previous at that time",
    "client.token.audience_regex": "the audience is compared as text; set token_audience",
    "client.token.issuer_regex": "the issuer is compared as text; set token_issuer",
    "client.token.user_id_claim": "the user ID is always in the claim sub",
    "client.subscription_token": "subscription tokens are checked with the same keys as connection tokens",
    "client.disallow_anonymous_connection_tokens": "tokens without sub are accepted; do not issue any",
    "client.expired_close_delay": "the time is fixed: 25 s",
    "client.expired_sub_close_delay": "the time is fixed: 25 s",
    "client.stale_close_delay": "the time is fixed: 10 s",
    "client.channel_limit": "the limit is fixed: 128 channels per client",
    "client.user_connection_limit": "connections are not counted by user",
    "client.connection_rate_limit": "the rate of connections is not limited",
    "client.connect_include_server_time": "the reply to connect does not have the time",
    "client.history_max_publication_limit": "the limit is fixed: 2000 publications",
    "client.recovery_max_publication_limit": "the limit is fixed: 2000 publications",
    "client.insecure_skip_token_signature_verify": "the signature of a token is always checked",
    "client.user_id_http_header": "a header does not identify a user; use the connect hook",
    "client.subscribe_to_user_personal_channel.single_connection": "a user may have several connections",
    "client.connect_code_to_unidirectional_disconnect": "codes are not replaced",
    "channel.proxy.subscribe": "the subscribe hook does not have this option",
    "channel.proxy.publish": "the publish hook does not have this option",
    "channel.proxy.sub_refresh": "there is no hook to refresh subscriptions",
    "channel.proxy.subscribe_stream": "subscription streams are not supported",
    "channel.proxy": "map and shared poll subscriptions are not supported",
    "channel.history_meta_ttl": "the time is fixed: 30 days",
    "channel.publication_data_format": "clients may publish any JSON",
    "channel.max_length": "the limit is fixed: 255 bytes",
    "channel.user_boundary": "the character is fixed: #",
    "channel.user_separator": "the character is fixed: a comma",
    "rpc.ping": "there is no built-in method; let the RPC hook answer it",
    "rpc.proxy": "the RPC hook does not have this option",
    "rpc": "the RPC hook is asked for every method",
    "http_api.handler_prefix": "the path is fixed: /api",
    "http_api.external": "all paths are served on the same port",
    "grpc_api": "the API is available over HTTP only",
    "consumers": "publications are not read from a queue or a database; let your backend call the HTTP API",
    "websocket.disabled": "WebSockets are always served",
    "websocket.handler_prefix": "the path is fixed: /connection/websocket",
    **{
        f"{section}.handler_prefix": f"the path is fixed: {path}"
        for section, path in (
            ("sse", "/connection/sse"),
            ("http_stream", "/connection/http_stream"),
            ("emulation", "/emulation"),
            ("uni_sse", "/connection/uni_sse"),
            ("uni_http_stream", "/connection/uni_http_stream"),
            ("uni_websocket", "/connection/uni_websocket"),
        )
    },
    **{
        f"{section}.connect_code_to_http_response": "the reason is in a push, not in the status"
        for section in ("uni_sse", "uni_http_stream")
    },
    "uni_websocket": "clients without an SDK receive each push in a message of its own, and a close frame",
    "webtransport": "WebTransport is not supported",
    "uni_grpc": "clients cannot use gRPC",
    "admin": "there is no admin interface",
    "prometheus": "set --metrics on; the metrics have other names than those of Centrifugo",
    "health.handler_prefix": "the path is fixed: /health",
    "swagger": "there is no description of the API for Swagger",
    "debug": "there are no debug endpoints",
    "init": "the path /connection/init does not exist",
    "opentelemetry": "OpenTelemetry is not supported",
    "graphite": "Graphite is not supported",
    "shutdown.timeout": "the server waits for --close-timeout",
    "pid_file": "use twistd --pidfile",
    "proxies": "the hooks do not have this option",
}
"""Option or section -> why it has no counterpart."""

CHANNEL_REASONS: Final[Mapping[str, str]] = {
    "history_meta_ttl": "the time is fixed: 30 days",
    "channel_regex": "names are not checked against a pattern",
    "publication_data_format": "clients may publish any JSON",
    "sub_refresh_proxy_enabled": "there is no hook to refresh subscriptions",
    "sub_refresh_proxy_name": "there is no hook to refresh subscriptions",
    "subscribe_stream_proxy_enabled": "subscription streams are not supported",
    "subscribe_stream_proxy_name": "subscription streams are not supported",
    "subscribe_stream_proxy_bidirectional": "subscription streams are not supported",
    "subscription_type": "map and shared poll subscriptions are not supported",
    "map": "map subscriptions are not supported",
    "map_clients_presence_channel_prefix": "map subscriptions are not supported",
    "map_users_presence_channel_prefix": "map subscriptions are not supported",
    "shared_poll": "shared poll subscriptions are not supported",
}
"""Option of a namespace -> why it has no counterpart."""


def find_reason(name: str, reasons: Mapping[str, str]) -> str | None:
    """Return the reason for an option: that of the option itself, or else of the smallest section that has one."""
    while name:
        if name in reasons:
            return reasons[name]
        name = name.rpartition(".")[0]
    return None

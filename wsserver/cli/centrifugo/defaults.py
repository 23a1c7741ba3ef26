"""
The sections of Centrifugo 6.9, those that can be disabled, and the defaults of its options.

Source: the output of `centrifugo defaultconfig` (version 6.9.1).
"""

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["DEFAULTS", "SECTIONS", "SWITCHED"]

SECTIONS: Final = frozenset(
    [
        "http_server",
        "log",
        "engine",
        "broker",
        "presence_manager",
        "map_broker",
        "controller",
        "shared_poll",
        "client",
        "channel",
        "rpc",
        "proxies",
        "http_api",
        "grpc_api",
        "consumers",
        "websocket",
        "sse",
        "http_stream",
        "webtransport",
        "uni_sse",
        "uni_http_stream",
        "uni_websocket",
        "uni_grpc",
        "emulation",
        "admin",
        "prometheus",
        "health",
        "swagger",
        "debug",
        "init",
        "opentelemetry",
        "graphite",
        "usage_stats",
        "node",
        "shutdown",
        "pid_file",
        "enable_unreleased_features",
    ]
)
"""The names at the top level of a configuration of Centrifugo 6."""

DEFAULTS: Final[Mapping[str, Any]] = {
    "log.level": "info",
    **{
        f"{section}.{name}": value
        for section in ("engine", "broker", "presence_manager", "map_broker")
        for name, value in {
            "type": "memory",
            "redis.prefix": "centrifugo",
            "redis.address": ["redis://127.0.0.1:6379"],
            "redis.connect_timeout": "1s",
            "redis.io_timeout": "4s",
            "redis.presence_ttl": "1m",
            "redis.cleanup_interval": "1s",
            "redis.cleanup_batch_size": 100,
            "redis.idempotent_result_ttl": "5m",
            "postgres.pool_size": 16,
            "postgres.num_shards": 8,
            "postgres.ttl_check_interval": "1s",
            "postgres.cleanup_interval": "1m",
            "postgres.idempotent_result_ttl": "5m",
            "postgres.stream_retention": "24h",
            "postgres.table_prefix": "cf",
            "postgres.outbox.poll_interval": "100ms",
            "postgres.outbox.batch_size": 1000,
            "postgres.partition_lookahead_days": 2,
            "postgres.partition_retention_days": 7,
            "nats.prefix": "centrifugo",
            "nats.url": "nats://localhost:4222",
            "nats.dial_timeout": "1s",
            "nats.write_timeout": "1s",
        }.items()
    },
    "client.ping_interval": "25s",
    "client.pong_timeout": "8s",
    "client.expired_close_delay": "25s",
    "client.expired_sub_close_delay": "25s",
    "client.stale_close_delay": "10s",
    "client.channel_limit": 128,
    "client.queue_max_size": 1048576,
    "client.presence_update_interval": "27s",
    "client.channel_position_check_delay": "40s",
    "client.history_max_publication_limit": 300,
    "client.recovery_max_publication_limit": 300,
    "channel.history_meta_ttl": "720h",
    "channel.max_length": 255,
    "channel.user_boundary": "#",
    "channel.user_separator": ",",
    "rpc.namespace_boundary": ":",
    "http_api.handler_prefix": "/api",
    "websocket.handler_prefix": "/connection/websocket",
    "websocket.compression_level": 1,
    "websocket.write_timeout": "1s",
    "websocket.message_size_limit": 65536,
    **{
        f"{section}.{name}": value
        for section in ("sse", "http_stream", "uni_sse", "uni_http_stream", "uni_websocket")
        for name, value in {
            "handler_prefix": f"/connection/{section}",
            "max_request_body_size": 65536,
            "compression_level": 1,
            "write_timeout": "1s",
            "message_size_limit": 65536,
        }.items()
    },
    "emulation.handler_prefix": "/emulation",
    "emulation.max_request_body_size": 65536,
    "health.handler_prefix": "/health",
    "node.info_metrics_aggregate_interval": "1m",
    "shutdown.timeout": "30s",
}
"""Option -> its default, if this is not false, zero or empty, and the option's section cannot be disabled."""

SWITCHED: Final = [
    "http_server.tls",
    "http_server.tls_autocert",
    "http_server.internal_tls",
    "http_server.http3",
    "broker",
    "presence_manager",
    "controller",
    "client.proxy.connect",
    "client.proxy.refresh",
    "client.subscription_token",
    "client.subscribe_to_user_personal_channel",
    "client.connect_code_to_unidirectional_disconnect",
    "rpc.ping",
    "grpc_api",
    "sse",
    "http_stream",
    "webtransport",
    "uni_sse",
    "uni_http_stream",
    "uni_websocket",
    "uni_grpc",
    "admin",
    "prometheus",
    "health",
    "swagger",
    "debug",
    "init",
    "opentelemetry",
    "graphite",
    "engine.redis.tls",
    "engine.redis.sentinel_tls",
    "engine.redis.replica_client",
    "broker.redis.tls",
    "broker.redis.sentinel_tls",
    "broker.redis.replica_client",
    "broker.nats.tls",
]
"""Sections that have no effect unless their option `enabled` is true."""

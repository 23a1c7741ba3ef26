"""Tests for wsserver/cli/centrifugo: options of Centrifugo are converted, or have a note that names them."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsserver.cli.centrifugo.options import convert
from wsserver.cli.centrifugo.source import is_default
from wsserver.cli.centrifugo.toml import write_configuration
from wsserver.config.settings import Settings

DEFAULTS = json.loads((Path(__file__).parent / "defaults.json").read_text("utf-8"))
"""Option of Centrifugo 6.9.1 -> its default, as `centrifugo defaultconfig` prints them."""

CHANNEL = {
    name.removeprefix("channel.without_namespace."): value
    for name, value in DEFAULTS.items()
    if name.startswith("channel.without_namespace.")
}

SECRET = "s" * 32
MINIMAL = {"port": 8000, "interface": "0.0.0.0", "history_size": 0, "api_errors": "body"}
"""What a conversion always sets, unless options of Centrifugo say otherwise."""


def nest(options):
    """Return options with dotted names as nested objects."""
    document = {}
    for name, value in options.items():
        *sections, last = name.split(".")
        place = document
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return document


def change(name, default):
    """Return a value for an option that is not its default."""
    if name.endswith((".namespaces", "proxies")):
        return [{"name": "one"}]
    if isinstance(default, bool):
        return True
    if isinstance(default, int):
        return default + 1
    if isinstance(default, list) or default is None:
        return ["x"]
    if isinstance(default, dict):
        return {"x": "y"}
    return "7s" if default[-1:] == "s" and default[:1].isdigit() else default + "7"


def load(tmp_path, converted):
    """Write the result as a file, and load it as the server does."""
    path = tmp_path / "server.toml"
    path.write_text(write_configuration(converted), "utf-8")
    return Settings.load(config=path)


def options_of(**options):
    """Convert options with dotted names; return the options of this server without `MINIMAL`, and the notes."""
    found = convert(nest({name.replace("__", "."): value for name, value in options.items()}))
    values = {name: value for name, value in found.options.items() if MINIMAL.get(name, found) != value}
    return values, [f"{note.option}: {note.reason}" for note in found.notes]


def table_of(namespace, pattern="ns:*", **more):
    """Convert a namespace; return the keys of its table."""
    found = convert({"channel": {"namespaces": [{"name": "ns", **namespace}], **more}})
    return dict(found.tables)[pattern], [f"{note.option}: {note.reason}" for note in found.notes]


texts = st.text(max_size=8) | st.sampled_from(["\ud800", "\0", "a*b", "chat"])


class EveryOptionTests:
    """The options of Centrifugo 6.9.1."""

    def test_the_defaults_need_nothing_but_a_key(self, tmp_path):
        found = convert(nest(DEFAULTS))
        assert [note.option for note in found.notes] == ["client.token"]
        assert found.options == MINIMAL
        assert found.tables == [("*", {"allow_subscribe_for_client": False})]
        assert load(tmp_path, found).port == 8000

    def test_every_option_is_known(self, tmp_path):
        """An option that is set is converted, needs no counterpart, or has a note with a reason."""
        changed = {name: change(name, default) for name, default in DEFAULTS.items()}
        found = convert(nest(changed))
        assert [note.option for note in found.notes if "unknown" in note.reason] == []
        load(tmp_path, found)

    @pytest.mark.parametrize("name", DEFAULTS)
    def test_an_option_that_is_set_alone_is_known(self, name):
        section = name.rpartition(".")[0]
        document = nest({f"{section}.enabled": True, name: change(name, DEFAULTS[name])})
        found = convert({key: value for key, value in document.items() if key})
        unknown = [note.option for note in found.notes if "unknown" in note.reason]
        assert unknown == ([] if f"{section}.enabled" in DEFAULTS else unknown[:1])
        assert name not in unknown

    @pytest.mark.parametrize("name", CHANNEL)
    def test_an_option_of_a_namespace_is_known(self, name):
        found = convert({"channel": {"namespaces": [{"name": "ns", **nest({name: change(name, CHANNEL[name])})}]}})
        assert [note for note in found.notes if "unknown" in note.reason] == []

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from(sorted(DEFAULTS)),
            st.none()
            | st.booleans()
            | st.integers(-(10**9), 10**12)
            | texts
            | st.sampled_from(["10s", "-1s", "1h", "http://x", "redis", "redis://h", "*", "127.0.0.1", "\ud800"])
            | st.lists(texts | st.dictionaries(st.sampled_from(["name", "endpoint"]), texts))
            | st.dictionaries(texts, st.integers()),
            max_size=12,
        )
    )
    def test_any_values_give_a_file_that_the_server_accepts(self, tmp_path, options):
        load(tmp_path, convert(nest_any(options)))

    def test_an_unknown_option_has_a_note(self):
        found = convert({"client": {"tokn": 1}, "channel": {"namespaces": [{"name": "a", "histori_size": 1}]}})
        names = [note.option for note in found.notes if "unknown: not an option of Centrifugo 6.9" in note.reason]
        assert names == ["client.tokn", "channel.namespaces[a].histori_size"]


def nest_any(options):
    """Nest options, some of which may be values where others need a section: the last one stays."""
    document = {}
    for name, value in options.items():
        *sections, last = name.split(".")
        place = document
        for section in sections:
            if not isinstance(place.get(section), dict):
                place[section] = {}
            place = place[section]
        place[last] = value
    return document


class ServerTests:
    """Listening, TLS and origins."""

    def test_the_address_and_the_port_are_kept(self):
        values, _ = options_of(http_server__address="127.0.0.1", http_server__port="9000")
        assert values == {"interface": "127.0.0.1", "port": 9000}

    def test_tls_files_are_named_and_pem_texts_have_a_note(self):
        tls = {"enabled": True, "cert_pem": "/etc/cert.pem", "key_pem": "-----BEGIN PRIVATE KEY-----\nx"}
        values, notes = options_of(http_server__tls=tls)
        assert values == {"tls_cert": "/etc/cert.pem"}
        assert "http_server.tls.key_pem: no counterpart: write the PEM to a file, and set tls_key" in notes
        assert not any("BEGIN" in note for note in notes)

    def test_origins_are_listed_and_patterns_have_a_note(self):
        values, notes = options_of(client__allowed_origins=["https://a.example", "https://*.example"])
        assert values == {"origin": ["https://a.example"]}
        assert "client.allowed_origins: no counterpart for 'https://*.example': name each origin" in notes
        assert options_of(client__allowed_origins=["*"])[0] == {"allow_any_origin_insecure": True}

    def test_a_section_that_is_not_supported_has_one_note(self):
        _, notes = options_of(
            admin={"enabled": True, "password": "p", "secret": "s"}, grpc_api={"port": 1}, http_api__key="k"
        )
        assert notes[-1] == "admin.enabled: no counterpart: there is no admin interface"
        assert len(notes) == 2


class RedisTests:
    """The URL of Redis."""

    @pytest.mark.parametrize(
        ("redis", "url"),
        [
            ({}, "redis://127.0.0.1:6379/0"),
            ({"address": "redis://h:1"}, "redis://h:1/0"),
            ({"address": ["redis://u:p%40@h:1/5"]}, "redis://u:p%40@h:1/5"),
            ({"address": ["rediss://h:1"], "db": 3, "password": "a/b"}, "rediss://:a%2Fb@h:1/3"),
            ({"address": ["h:1"], "user": "u", "password": "p"}, "redis://u:p@h:1/0"),
            ({"address": ["tcp://h:1"]}, "redis://h:1/0"),
            ({"address": ["redis://h:1?tls_enabled=true"]}, "rediss://h:1/0"),
            (
                {"address": ["redis://h:1"], "tls": {"enabled": True, "server_ca_pem": "/ca.pem"}},
                "rediss://h:1/0?ssl_ca_certs=%2Fca.pem",
            ),
            (
                {"address": ["redis+sentinel://:p@h:1?sentinel_master_name=m&addr=i:2&sentinel_password=q"]},
                "redis+sentinel://:p@h:1,i:2/m/0?sentinel_password=q",
            ),
            (
                {
                    "sentinel_address": ["h:1,i:2"],
                    "sentinel_master_name": "m",
                    "sentinel_user": "v",
                    "sentinel_password": "q",
                    "db": 2,
                },
                "redis+sentinel://h:1,i:2/m/2?sentinel_username=v&sentinel_password=q",
            ),
        ],
    )
    def test_the_address_becomes_one_url(self, redis, url):
        assert options_of(engine={"type": "redis", "redis": redis})[0]["redis"] == url
        assert options_of(broker={"enabled": True, "type": "redis", "redis": redis})[0]["redis"] == url

    @pytest.mark.parametrize(
        ("redis", "note"),
        [
            ({"cluster_address": ["h:1"]}, "engine.redis.cluster_address: no counterpart: Redis Cluster is"),
            ({"address": ["h:1", "h:2"]}, "engine.redis.address: no counterpart: channels cannot be spread"),
            ({"address": ["unix:///run/redis"]}, "engine.redis.address: no counterpart: expected redis://"),
            ({"address": ["redis://h:1/x"]}, "engine.redis.address: not converted: expected the number of a database"),
            ({"prefix": "mine"}, "engine.redis.prefix: no counterpart: the server has its own names"),
            ({"address": ["redis://h:1?io_timeout=1s"]}, "engine.redis.address: no counterpart for the parameter io_"),
        ],
    )
    def test_what_the_server_does_not_support_has_a_note(self, redis, note):
        _, notes = options_of(engine={"type": "redis", "redis": redis})
        assert [one for one in notes if one.startswith(note)]

    def test_without_redis_its_options_are_dropped(self):
        values, notes = options_of(engine__redis__prefix="x", broker={"type": "redis"})
        assert values == {}
        assert len(notes) == 1


class TokenTests:
    """Keys and claims."""

    def test_keys_are_kept_and_tokens_without_exp_stay_valid(self):
        token = {
            "hmac_secret_key": SECRET,
            "hmac_previous_secret_key": SECRET[::-1],
            "jwks_public_endpoint": "https://a.example/keys",
            "audience": "chat",
            "issuer": "me",
        }
        values, notes = options_of(client__token=token)
        assert values == {
            "token_secret": SECRET,
            "token_secret_previous": SECRET[::-1],
            "token_jwks_url": "https://a.example/keys",
            "token_audience": "chat",
            "token_issuer": "me",
            "token_no_expiry": True,
        }
        assert notes == []

    def test_a_short_secret_is_permitted(self):
        assert options_of(client__token__hmac_secret_key="x")[0]["token_secret_weak"] is True

    def test_both_kinds_of_public_keys_are_joined(self):
        key = "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----"
        values, _ = options_of(client__token={"rsa_public_key": key.format("r"), "ecdsa_public_key": key.format("e")})
        assert values["token_public_key"] == f"{key.format('r')}\n{key.format('e')}"

    def test_without_a_key_a_note_says_that_clients_are_admitted(self):
        assert options_of()[1] == ["client.token: no key is set; this server then admits clients without a token"]
        assert options_of(client__allow_anonymous_connect_without_token=True) == ({"anonymous": True}, [])


class TransportTests:
    """Transports other than WebSocket, which are always served."""

    def test_they_need_no_option_at_the_usual_paths(self):
        sections = ("sse", "http_stream", "uni_sse", "uni_http_stream", "uni_websocket")
        assert (
            options_of(**{f"{section}__enabled": True for section in sections}, http_api__key="k")[1] == options_of()[1]
        )

    def test_other_paths_have_a_note(self):
        _, notes = options_of(sse={"enabled": True, "handler_prefix": "/x"}, uni_sse={"handler_prefix": "/y"})
        assert [note for note in notes if "path" in note] == [
            "sse.handler_prefix: no counterpart: the path is fixed: /connection/sse"
        ]


class DevelopmentTests:
    """`client.insecure` and `http_api.insecure`."""

    def test_they_are_converted_on_loopback_only(self):
        insecure = {"client": {"insecure": True}, "http_api": {"insecure": True}}
        values, notes = options_of(http_server__address="localhost", **insecure)
        assert values == {"interface": "localhost", "insecure": True, "api_insecure": True}
        assert notes == []
        values, notes = options_of(**insecure)
        assert values == {}
        assert [note for note in notes if "--api-insecure needs --interface 127.0.0.1" in note]


class APITests:
    """The HTTP API."""

    @pytest.mark.parametrize(
        ("api", "values"),
        [
            ({"key": "k"}, {"api_key": "k"}),
            ({"key": "k", "disabled": True}, {}),
        ],
    )
    def test_the_key_is_kept_unless_the_api_is_disabled(self, api, values):
        assert options_of(http_api=api)[0] == values

    def test_the_mode_of_errors_is_kept(self):
        assert convert({"http_api": {"error_mode": "transport"}}).options.get("api_errors") is None
        assert convert({}).options["api_errors"] == "body"


class ChannelTests:
    """Namespaces become tables."""

    def test_a_namespace_that_permits_nothing_is_closed(self):
        assert table_of({}, "*")[0] == {"allow_subscribe_for_client": False}

    def test_permissions_are_kept_for_users_only(self):
        """In Centrifugo, an option for clients does not apply to anonymous ones."""
        keys, _ = table_of(
            {
                "allow_subscribe_for_client": True,
                "allow_publish_for_subscriber": True,
                "presence": True,
                "allow_presence_for_client": True,
                "history_size": 10,
                "history_ttl": "300s",
                "allow_history_for_subscriber": True,
            }
        )
        assert keys == {
            "allow_subscribe_for_client": True,
            "allow_subscribe_for_anonymous": False,
            "allow_publish_for_subscriber": True,
            "allow_publish_for_anonymous": False,
            "presence": True,
            "allow_presence_for_subscriber": False,
            "allow_presence_for_client": True,
            "allow_presence_for_anonymous": False,
            "join_leave": False,
            "history_size": 10,
            "history_ttl": "5m",
            "allow_history_for_anonymous": False,
        }

    def test_permissions_for_anonymous_clients_are_kept(self):
        namespace = {
            f"allow_{verb}_for_{who}": True for verb in ("subscribe", "publish") for who in ("client", "anonymous")
        }
        assert table_of(namespace)[0] == {"allow_subscribe_for_client": True, "allow_publish_for_client": True}

    @pytest.mark.parametrize(
        ("namespace", "keys"),
        [
            ({"join_leave": True}, {"presence": True, "allow_presence_for_subscriber": False}),
            (
                {"join_leave": True, "force_push_join_leave": True},
                {"presence": True, "allow_presence_for_subscriber": False, "force_push_join_leave": True},
            ),
            ({"force_push_join_leave": True}, {}),
            ({"allow_user_limited_channels": True}, {"allow_user_limited_channels": True}),
            ({"history_size": 10}, {}),
        ],
    )
    def test_events_and_history_need_their_options(self, namespace, keys):
        assert table_of({**namespace, "allow_presence_for_anonymous": True}, "ns:*" if keys else "*")[0] == {
            "allow_subscribe_for_client": False,
            **keys,
        }

    @pytest.mark.parametrize(
        ("namespace", "keys"),
        [
            ({"force_recovery": True, "force_recovery_mode": "cache"}, {"force_recovery_mode": "cache"}),
            (
                {"force_recovery": True, "force_recovery_mode": "cache", "auto_cache_recover": True},
                {"force_recovery_mode": "cache", "rewind": 1},
            ),
            ({"force_recovery_mode": "stream", "auto_cache_recover": True}, {}),
            ({"allowed_delta_types": ["fossil"]}, {"delta": "requested"}),
            ({"allowed_delta_types": ["fossil"], "delta_publish": True}, {"delta": "always"}),
            ({"delta_publish": True}, {}),
            ({"allow_tags_filter": True}, {"allow_tags_filter": True}),
        ],
    )
    def test_what_subscribers_receive_is_kept(self, namespace, keys):
        history = {"history_size": 10, "history_ttl": "60s", "allow_history_for_subscriber": True}
        anonymous = {"allow_history_for_anonymous": True}
        assert table_of({**namespace, **history, **anonymous})[0] == {
            "allow_subscribe_for_client": False,
            "history_size": 10,
            "history_ttl": "1m",
            **keys,
        }

    def test_private_channels_and_unknown_namespaces_are_closed(self):
        """The first table that matches a channel applies."""
        open_ = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
        found = convert({"channel": {"without_namespace": open_, "namespaces": [{"name": "ns", **open_}]}})
        assert [(pattern, keys["allow_subscribe_for_client"]) for pattern, keys in found.tables] == [
            ("$ns:*", False),
            ("ns:*", True),
            ("*:*", False),
            ("$*", False),
            ("*", True),
        ]

    def test_other_boundaries_are_used_in_patterns(self):
        open_ = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
        channel = {"private_prefix": "", "namespace_boundary": "/", "namespaces": [{"name": "ns", **open_}]}
        assert [pattern for pattern, _ in convert({"channel": channel}).tables] == ["ns/*", "*"]
        channel["namespace_boundary"] = "*"
        found = convert({"channel": channel})
        assert [pattern for pattern, _ in found.tables] == ["*"]
        assert "channel.namespace_boundary" in [note.option for note in found.notes]

    def test_a_personal_channel_is_kept(self):
        personal = {"enabled": True, "personal_channel_namespace": "user", "single_connection": True}
        values, notes = options_of(client__subscribe_to_user_personal_channel=personal)
        assert values == {"personal_channel": "user:#"}
        assert notes[-1].startswith("client.subscribe_to_user_personal_channel.single_connection: no counterpart: ")
        del personal["personal_channel_namespace"]
        assert options_of(client__subscribe_to_user_personal_channel=personal)[0] == {"personal_channel": "#"}


class HookTests:
    """Proxies become hooks."""

    def test_a_proxy_decides_about_the_namespaces_that_use_it(self):
        open_ = {"allow_subscribe_for_client": True, "allow_publish_for_client": True}
        namespaces = [
            {"name": "asked", "subscribe_proxy_enabled": True, "publish_proxy_enabled": True, **open_},
            {"name": "free", **open_},
        ]
        proxy = {"subscribe": {"endpoint": "http://h/s"}, "publish": {"endpoint": "http://h/p", "timeout": "3s"}}
        found = convert({"channel": {"proxy": proxy, "namespaces": namespaces}})
        assert {name: value for name, value in found.options.items() if "hook" in name} == {
            "hook_subscribe": "http://h/s",
            "hook_publish": "http://h/p",
            "hook_timeout": "3s",
        }
        tables = dict(found.tables)
        assert tables["asked:*"] == {"allow_subscribe_for_client": False}
        assert tables["free:*"]["hook_subscribe"] is tables["free:*"]["hook_publish"] is False
        assert tables["$asked:*"] == {"allow_subscribe_for_client": False, "hook_subscribe": False}

    def test_private_channels_have_the_options_of_their_namespace(self):
        keys, _ = table_of({"presence": True}, "$ns:*")
        assert keys == {
            "allow_subscribe_for_client": False,
            "presence": True,
            "allow_presence_for_subscriber": False,
            "join_leave": False,
        }

    def test_one_timeout_is_used(self):
        proxy = {"subscribe": {"endpoint": "http://h/s"}, "publish": {"endpoint": "http://h/p", "timeout": "3s"}}
        namespace = {"name": "ns", "subscribe_proxy_enabled": True, "publish_proxy_enabled": True}
        found = convert({"channel": {"proxy": proxy, "namespaces": [namespace]}})
        assert found.options["hook_timeout"] == "3s"
        assert "timeout of proxies: all hooks have the longest one: 3s" in [
            f"{note.option}: {note.reason}" for note in found.notes
        ]

    def test_static_headers_get_one_note_without_their_values(self):
        proxy = {"endpoint": "http://h/s", "http": {"static_headers": {"X-Key": "k", "X-Other": "o"}}, "enabled": True}
        found = convert({"client": {"proxy": {"connect": proxy}}})
        assert [(note.option, note.reason) for note in found.notes if "header" in note.option] == [
            (
                "client.proxy.connect.http.static_headers",
                "no counterpart: put a secret into the URL of the hook, as http://host/path?key=...",
            )
        ]

    def test_a_hook_has_one_url(self):
        namespaces = [
            {"name": name, "subscribe_proxy_enabled": True, "subscribe_proxy_name": name} for name in ("a1", "b1")
        ]
        proxies = [{"name": name, "endpoint": f"http://{name}/"} for name in ("a1", "b1")]
        found = convert({"channel": {"namespaces": namespaces}, "proxies": proxies})
        assert found.options["hook_subscribe"] == "http://a1/"
        assert "hook_subscribe" not in dict(found.tables)["a1:*"]
        assert dict(found.tables)["*"]["hook_subscribe"] is False
        [note] = [note for note in found.notes if note.option.startswith("channel")]
        assert note.option == "channel.namespaces[b1].subscribe_proxy_enabled"

    def test_connect_and_rpc_are_converted(self):
        connect = {"enabled": True, "endpoint": "http://h/c", "http_headers": ["Cookie", "X-Team"], "timeout": "5s"}
        rpc = {"proxy": {"endpoint": "http://h/r"}, "without_namespace": {"proxy_enabled": True}}
        values, notes = options_of(client__proxy__connect=connect, rpc=rpc)
        assert values == {"hook_connect": "http://h/c", "hook_rpc": "http://h/r", "hook_timeout": "5s"}
        assert [
            note for note in notes if note.startswith("client.proxy.connect.http_headers: no counterpart for X-Team")
        ]

    def test_grpc_has_a_note(self):
        connect = {"enabled": True, "endpoint": "grpc://h:1"}
        values, notes = options_of(client__proxy__connect=connect)
        assert values == {}
        assert notes[0].startswith("client.proxy.connect.enabled: no counterpart")


class DefaultTests:
    """`is_default`."""

    @pytest.mark.parametrize(
        ("value", "default", "expected"),
        [
            ("60s", "1m", True),
            ("1m0s", "1m", True),
            ("720h0m0s", "720h", True),
            ("2m", "1m", False),
            ("0s", None, True),
            (None, None, True),
            ([], None, True),
            ("x", None, False),
            (0, 128, False),
            ("$", "$", True),
        ],
    )
    def test_compares_durations_by_their_length(self, value, default, expected):
        assert is_default(value, default) is expected

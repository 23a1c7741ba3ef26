"""Tests for wsserver/config/redis_url.py: URLs of Redis servers and Sentinels."""

import pytest

from wsserver.config.redis_url import parse_redis_url


def problem_of(text):
    """Return the error for an invalid URL."""
    with pytest.raises(ValueError, match="expected") as caught:
        parse_redis_url(text)
    return str(caught.value)


class RedisURLTests:
    """The URL of one Redis server."""

    @pytest.mark.parametrize(
        ("text", "host", "port", "tls", "database"),
        [
            ("redis://h", "h", 6379, False, 0),
            ("redis://h:", "h", 6379, False, 0),
            ("redis://h/", "h", 6379, False, 0),
            ("REDIS://Redis.Example:65535/15", "redis.example", 65535, False, 15),
            ("redis://[::1]:1/0", "::1", 1, False, 0),
            ("rediss://redis_1.internal", "redis_1.internal", 6379, True, 0),
            ("redis://xn--bcher-kva.example", "xn--bcher-kva.example", 6379, False, 0),
        ],
    )
    def test_parses_host_port_tls_and_database(self, text, host, port, tls, database):
        url = parse_redis_url(text)
        assert (url.hosts, url.tls, url.database, url.master) == (((host, port),), tls, database, "")

    @pytest.mark.parametrize(
        ("user", "name", "password"),
        [
            ("", None, None),
            ("@", None, None),
            (":@", None, None),
            (":secret@", None, "secret"),
            ("me:secret@", "me", "secret"),
            ("me:@", "me", ""),
            ("m%65:a%40b%2Fc%3a%C3%BC@", "me", "a@b/c:ü"),
            ("me:a:b@c@", "me", "a:b@c"),
        ],
    )
    def test_parses_percent_encoded_user_and_password(self, user, name, password):
        """A password may be empty if there is a user."""
        url = parse_redis_url(f"redis://{user}h")
        assert (url.username, url.password) == (name, password)

    def test_ssl_ca_certs_names_a_file_of_trusted_certificates(self):
        assert parse_redis_url("rediss://h?ssl_ca_certs=/etc/my%20ca.pem").ca_file == "/etc/my ca.pem"
        assert parse_redis_url("rediss://h/1").ca_file == ""


class SentinelURLTests:
    """The URL of Sentinels, which know the current Redis."""

    def test_parses_several_hosts_the_master_name_and_both_passwords(self):
        url = parse_redis_url(
            "rediss+sentinel://me:p1@a,b:5000,[::1]/my-master/3?sentinel_username=s&sentinel_password=p%262"
        )
        assert url.hosts == (("a", 26379), ("b", 5000), ("::1", 26379))
        assert (url.master, url.database, url.tls) == ("my-master", 3, True)
        assert (url.username, url.password) == ("me", "p1")
        assert (url.sentinel_username, url.sentinel_password) == ("s", "p&2")

    def test_one_host_and_the_master_name_are_enough(self):
        url = parse_redis_url("redis+sentinel://h/mymaster")
        assert (url.hosts, url.master, url.database) == ((("h", 26379),), "mymaster", 0)
        assert (url.username, url.password, url.sentinel_password) == (None, None, None)


class LoggedURLTests:
    """The form of a URL that may be logged."""

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("redis://me:hush@h", "redis://h:6379/0"),
            ("rediss://:hush@[::1]/2", "rediss://[::1]:6379/2"),
            ("redis+sentinel://:hush@a,b/m?sentinel_password=hush", "redis+sentinel://a:26379,b:26379/m/0"),
        ],
    )
    def test_the_shown_url_contains_neither_user_nor_password(self, text, shown):
        url = parse_redis_url(text)
        assert url.shown == shown
        assert "hush" not in repr(url)


class InvalidURLTests:
    """Invalid URLs."""

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "such as redis://"),
            ("localhost:6379", "such as redis://"),
            ("http://h", "such as redis://"),
            ("redis://", "such as redis://"),
            ("redis://h#x", "such as redis://"),
            ("rediss://h?ssl_ca_certs", "name=value"),
            ("redis://user@h", "expected a password too"),
            ("redis://a:%ff@h", "UTF-8"),
            ("redis://bücher.example", "xn--"),
            ("redis://h:0", "port from 1 to 65535"),
            ("redis://h:65536", "port from 1 to 65535"),
            ("redis://h:x", "%2F for /"),
            ("redis://::1", "such as redis://"),
            ("redis://[::g]", "IPv6"),
            ("redis://a,b", "expected one host"),
            ("redis://h/x", "number of a database"),
            ("redis://h/0?x=1", "expected no query"),
            ("redis://h?ssl_ca_certs=/ca.pem", "expected no query"),
            ("rediss://h?ssl_ca_certs=", "with a value"),
            ("rediss://h?ssl_cert_reqs=none", "ssl_ca_certs"),
            ("redis+sentinel://h", "name of the master"),
            ("redis+sentinel://h/m/x", "name of the master"),
            ("redis+sentinel://a,/m", "such as redis://"),
            ("redis+sentinel://a/m?sentinel_username=x", "sentinel_password"),
            ("redis+sentinel://a/m?sentinel_password=x&sentinel_password=y", "once"),
        ],
    )
    def test_each_invalid_url_is_refused_with_what_was_expected(self, text, words):
        assert words in problem_of(text)

    @pytest.mark.parametrize("mark", ["/", "#", "?"])
    def test_no_part_of_an_unencoded_password_is_in_the_error(self, mark):
        """The password contains delimiters of URLs, so its text is in several parts of the parsed URL."""
        problem = problem_of(f"redis://:hush{mark}hush@h")
        assert "hush" not in problem

"""Tests for wsserver/hub/access.py: which channels clients may subscribe to without a token that permits them."""

import pytest

from wsserver.hub.access import Access
from wsserver.hub.rules import Rules


class AccessTests:
    """`Access`: which channels may be subscribed to without a token."""

    @pytest.mark.parametrize(
        ("patterns", "local", "host", "allowed"),
        [
            (["foo"], False, "example.com", True),
            (["bar"], True, "localhost", False),
            (None, False, "localhost", False),
            (None, True, "localhost:8080", True),
            (None, True, "127.0.0.1", True),
            (None, True, "[::1]:8080", True),
            (None, True, "evil.example", False),
            (None, True, "", False),
            (None, True, "localhost.evil.example", False),
        ],
    )
    def test_allows_listed_channels_and_without_a_list_only_loopback(self, patterns, local, host, allowed):
        """Without a list, both the server's address and the host that the client has requested must be loopback."""
        access = Access(Rules(allow=patterns), loopback_only=local)
        refusal = access.refuse("foo", "", host)
        assert (refusal is None) is allowed
        assert refusal is None or "channel 'foo' is not allowed" in refusal.reason
        assert refusal is None or "--channel-allow" in refusal.reason

    @pytest.mark.parametrize(
        ("fields", "user", "local", "allowed"),
        [
            ({"allow_subscribe_for_client": True}, "", False, True),
            ({"allow_subscribe_for_client": False}, "42", True, False),
            ({"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": False}, "", False, False),
            ({"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": False}, "42", False, True),
            ({"allow_subscribe_for_anonymous": False}, "", True, False),
            ({"allow_subscribe_for_anonymous": False}, "42", True, True),
            ({"history_size": 0}, "", True, True),
            ({"history_size": 0}, "", False, False),
        ],
    )
    def test_a_table_opens_or_closes_its_channels(self, fields, user, local, allowed):
        """It overrides --channel-allow; without a table and --channel-allow, loopback decides."""
        access = Access(Rules(overrides=[("f*", fields)]), loopback_only=local)
        assert (access.refuse("foo", user, "localhost") is None) is allowed

    def test_a_table_overrides_channel_allow_in_both_directions(self):
        tables = [("a", {"allow_subscribe_for_client": False}), ("b", {"allow_subscribe_for_client": True})]
        access = Access(Rules(allow=["a", "c"], overrides=tables), loopback_only=False)
        assert [name for name in "abcd" if access.refuse(name, "", "") is None] == ["b", "c"]

    @pytest.mark.parametrize(
        ("channel", "user", "allowed"),
        [
            ("#42", "42", True),
            ("#42", "4", False),
            ("#42", "", False),
            ("#", "", False),
            ("dialog#42,43", "42", True),
            ("dialog#42,43", "43", True),
            ("dialog#42,43", "42,43", False),
            ("a#42#43", "43", True),
            ("a#42#43", "42", False),
            ("dialog", "42", False),
        ],
    )
    def test_a_user_limited_channel_is_open_to_the_users_that_its_name_lists(self, channel, user, allowed):
        rules = Rules(overrides=[("*", {"allow_user_limited_channels": True})])
        assert (Access(rules, loopback_only=False).refuse(channel, user, "") is None) is allowed

    def test_a_user_limited_channel_is_closed_to_others_although_all_channels_are_allowed(self):
        rules = Rules(allow=["*"], overrides=[("*", {"allow_user_limited_channels": True})])
        assert Access(rules, loopback_only=True).refuse("#42", "43", "localhost")
        assert Access(Rules(allow=["*"]), loopback_only=True).refuse("#42", "43", "localhost") is None

    def test_a_hook_closes_the_channels_that_only_loopback_opens(self):
        rules = Rules(overrides=[("open", {"allow_subscribe_for_client": True})])
        access = Access(rules, loopback_only=True)
        assert access.refuse("open", "", "localhost", has_hook=True) is None
        assert "by the backend" in access.refuse("other", "", "localhost", has_hook=True).reason

    @pytest.mark.parametrize(
        ("rules", "local", "closed"),
        [
            (Rules(), False, True),
            (Rules(), True, False),
            (Rules(allow=["a"]), False, False),
            (Rules(overrides=[("a", {"allow_subscribe_for_client": False})]), False, True),
            (Rules(overrides=[("a", {"allow_subscribe_for_client": True})]), False, False),
            (Rules(overrides=[("a", {"allow_user_limited_channels": True})]), False, False),
        ],
    )
    def test_is_closed_if_no_option_opens_a_channel(self, rules, local, closed):
        assert Access(rules, loopback_only=local).closed is closed

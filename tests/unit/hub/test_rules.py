"""Tests for wsserver/hub/rules.py: the options of each channel."""

from wsserver.config.settings import Settings
from wsserver.hub.rules import Rule, Rules


def test_channels_with_the_same_options_share_one_rule():
    rules = Rules(presence=["room:*"], overrides=[("a*", {"history_size": 1}), ("b*", {"history_size": 2})])
    assert rules.for_channel("room:1") is rules.for_channel("room:2")
    assert rules.for_channel("a1") is rules.for_channel("a2") is not rules.for_channel("b1")
    assert rules.for_channel("other") == Rule()


def test_only_the_first_table_that_matches_applies():
    rules = Rules(publish=["*"], overrides=[("a:*", {"history_size": 1}), ("*", {"publish": False, "presence": True})])
    assert rules.for_channel("a:1") == Rule(history_size=1, publish=True)
    assert rules.for_channel("b:1") == Rule(publish=False, presence=True)


def test_insecure_overrides_tables_except_for_presence_and_history_size():
    tables = (("*", {"history_size": 7, "publish": False, "allow_subscribe_for_client": False}),)
    rule = Rules.from_settings(Settings(insecure=True, channel_allow=("a",), channel=tables)).for_channel("b")
    assert (rule.history_size, rule.presence, rule.allow_subscribe_for_client) == (7, False, None)
    assert rule.may_publish("", subscribed=False, may_subscribe=False)
    assert rule.may_read_presence("", subscribed=False)
    assert rule.may_read_history("", subscribed=False)


def test_a_publish_hook_decides_although_the_server_is_insecure():
    settings = Settings(insecure=True, hook_publish="http://127.0.0.1:3000/publish")
    rule = Rules.from_settings(settings).for_channel("a")
    assert not rule.may_publish("42", subscribed=False, may_subscribe=True)

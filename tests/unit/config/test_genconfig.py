"""Tests for the configuration file that `wsserver genconfig` prints."""

import re
import tomllib

from options import load, uncommented

from wsserver.config.genconfig import genconfig
from wsserver.config.settings import TABLE, Settings


class GenconfigTests:
    """The file that `wsserver genconfig` writes."""

    def test_the_file_leaves_every_option_at_its_default(self, config):
        assert tomllib.loads(genconfig()) == {}
        assert load(config=config(genconfig())) == Settings()

    def test_uncommenting_every_option_in_order_gives_the_defaults(self, config):
        text = uncommented()
        assert list(tomllib.loads(text)) == list(TABLE)
        assert load(config=config(text)) == Settings()

    def test_the_uncommented_channel_table_sets_five_options(self, config):
        text = re.sub(r"(?m)^#(?=[a-z_\[]+)", "", "#" + genconfig().partition("# Options for the channels")[2])
        parts = {"history_size": 1000, "history_ttl": 600.0, "presence": True, "publish": True, "slow": "drop-oldest"}
        assert load(config=config(text)).channel == (("chat:*", parts),)

    def test_the_help_is_above_each_option_and_the_name_above_each_group(self):
        lines = genconfig().splitlines()
        for option in TABLE.values():
            at = lines.index(f"#{option.name} = {option.toml_default()}")
            above = "\n".join(lines[:at]).rpartition("\n\n")[2]
            assert above.startswith("# ")
            assert above.removeprefix("# ").replace("\n# ", " ") == option.help
        groups = [line.split("---")[1].strip() for line in lines if line.startswith("# ---")]
        assert groups == list(dict.fromkeys(option.group for option in TABLE.values()))

    def test_comment_lines_have_at_most_100_characters(self):
        comments = [line for line in genconfig().splitlines() if line.startswith("# ")]
        assert len(comments) > len(TABLE)
        assert [line for line in comments if len(line) > 100] == []

    def test_the_head_names_the_spelling_of_a_flag_in_the_file(self):
        head = genconfig().partition("\n\n")[0]
        assert "--tls-cert is tls_cert in this file" in head

    def test_numbers_booleans_and_lists_have_their_toml_type(self):
        """Sizes and times are TOML strings, because they contain a unit."""
        table = tomllib.loads(uncommented())
        assert table["port"] == 8080
        assert table["anonymous"] is False
        assert table["origin"] == []
        assert table["max_message_size"] == "1MiB"
        assert table["ping_interval"] == "25s"
        assert table["timezone"] == "local"

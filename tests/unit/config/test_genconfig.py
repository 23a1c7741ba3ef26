"""The configuration file that `wsserver genconfig` prints."""

import re
import tomllib

from options import load, uncommented

from wsserver.config.genconfig import genconfig
from wsserver.config.settings import TABLE, Settings


class GenconfigTests:
    """The file that `wsserver genconfig` writes."""

    def test_sets_nothing(self, config):
        """As it is, it leaves every option at its default."""
        assert tomllib.loads(genconfig()) == {}
        assert load(config=config(genconfig())) == Settings()

    def test_uncommented(self, config):
        """With every option uncommented it still is the defaults, and it has them all in order."""
        text = uncommented()
        assert list(tomllib.loads(text)) == list(TABLE)
        assert load(config=config(text)) == Settings()

    def test_by_channel(self, config):
        """The table for some channels is shown too."""
        text = re.sub(
            r"(?m)^#(?=[a-z_\[]+)", "", genconfig().partition("# Options for the channels")[2].partition("\n")[2]
        )
        parts = {"history_size": 1000, "history_ttl": 600.0, "presence": True, "publish": True, "slow": "drop-oldest"}
        assert load(config=config(text)).channel == (("chat:*", parts),)

    def test_explained(self):
        """Above each option stands what it does, above each group its name."""
        lines = genconfig().splitlines()
        for option in TABLE.values():
            at = lines.index(f"#{option.name} = {option.toml_default()}")
            assert lines[at - 1] == f"# {option.help}"
        groups = [line.split("---")[1].strip() for line in lines if line.startswith("# ---")]
        assert groups == list(dict.fromkeys(option.group for option in TABLE.values()))

    def test_types(self):
        """Numbers, truth values and lists have their own type in TOML; sizes and times are texts with a unit."""
        table = tomllib.loads(uncommented())
        assert table["port"] == 8080
        assert table["anonymous"] is False
        assert table["origin"] == []
        assert table["max_message_size"] == "1MiB"
        assert table["ping_interval"] == "25s"
        assert table["timezone"] == "local"

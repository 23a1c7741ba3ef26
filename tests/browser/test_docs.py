"""The pages of the documentation do what they say: every command is run, and what is printed is what they show."""

import pytest
from paths import DOCS
from walkthrough import Walk, read_blocks

TUTORIALS = DOCS / "tutorials"


class WalkthroughTests:
    """From the first block to the last."""

    @pytest.mark.parametrize(("page", "checks"), [("push-from-redis.md", 8), ("push-from-http.md", 6)])
    def test_page(self, tmp_path, open_browser_page, page, checks):
        """A reader who does everything sees everything."""
        blocks = read_blocks(TUTORIALS / page)
        assert {block.kind for block in blocks} <= {"sh", "js", "text", "json"}
        assert sum(block.kind in ("text", "json") for block in blocks) == checks
        with Walk(tmp_path, lambda: open_browser_page()[0]) as walk:
            for block in blocks:
                walk.follow(block)

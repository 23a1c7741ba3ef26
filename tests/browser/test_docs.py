"""Tests for the tutorials and similar pages: every command runs and prints what the page shows."""

import pytest
from paths import DOCS, ROOT
from walkthrough import Block, Walk, read_blocks


class WalkthroughTests:
    """Each page is followed from its first block to its last."""

    @pytest.mark.parametrize(
        ("page", "checks"),
        [
            ("tutorials/first-five-minutes.md", 8),
            ("tutorials/push-from-redis.md", 8),
            ("tutorials/push-from-http.md", 6),
            ("tutorials/embed-in-twisted.md", 2),
            ("how-to/move-from-echo-server.md", 2),
            ("how-to/move-from-openresty.md", 1),
        ],
    )
    def test_following_a_page_prints_what_it_shows(self, tmp_path, open_browser_page, page, checks):
        blocks = read_blocks(DOCS / page)
        assert {block.kind for block in blocks} <= {"sh", "js", "text", "json", "python"}
        shown = [block for block in blocks if block.kind in ("text", "json") and block.name != "send"]
        assert len(shown) == checks
        with Walk(tmp_path, lambda: open_browser_page()[0]) as walk:
            for block in blocks:
                walk.follow(block)

    def test_the_commands_of_the_readme_print_what_it_shows(self, tmp_path, open_browser_page):
        blocks = [Block("sh", "", "redis-server --port 6379 --bind 127.0.0.1 --save '' &\n")]
        blocks += read_blocks(ROOT / "README.md")
        assert [block.name for block in blocks if block.kind == "text"] == ["console", "subscriber"]
        with Walk(tmp_path, lambda: open_browser_page()[0]) as walk:
            for block in blocks:
                walk.follow(block)

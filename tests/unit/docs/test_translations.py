"""The Chinese pages have the same commands, code and output as the English ones, which other tests run."""

import pytest
from paths import DOCS, ROOT
from walkthrough import read_blocks

PAGES = {
    ROOT / "README.zh-CN.md": ROOT / "README.md",
    DOCS / "zh" / "first-five-minutes.md": DOCS / "tutorials" / "first-five-minutes.md",
}
"""Chinese page -> its English page."""


@pytest.mark.parametrize(("chinese", "english"), PAGES.items(), ids=lambda page: page.name)
def test_a_chinese_page_has_the_blocks_of_its_english_page(chinese, english):
    assert read_blocks(chinese) == read_blocks(english)


def test_every_chinese_page_has_an_english_one():
    assert {*PAGES} == {*DOCS.glob("zh/*.md"), ROOT / "README.zh-CN.md"}


@pytest.mark.parametrize(("chinese", "english"), PAGES.items(), ids=lambda page: page.name)
def test_the_pages_have_the_same_number_of_headings_tables_and_links(chinese, english):
    texts = [page.read_text("utf-8") for page in (chinese, english)]
    for mark in ("\n## ", "\n|"):
        assert texts[0].count(mark) == texts[1].count(mark)

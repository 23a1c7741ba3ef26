"""The documentation as a site: what `make site` builds, in Chromium from a local server."""

import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from processes import running_site

SITE = ROOT / "build" / "site"


@pytest.fixture(scope="module")
def site():
    """Build the site, with what the last build has kept, and serve it; yields its origin."""
    command = ("-m", "sphinx", "--quiet", "--fail-on-warning", "-c", "docs", "-d", "build/doctrees", ".", "build/site")
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, timeout=240)
    with running_site(SITE) as origin:
        yield origin


@pytest.fixture
def open_page(site, open_browser_page):
    """Return a function that opens a page of the site. A request to another host fails the test."""
    requested: list[str] = []

    def open_one(path: str, **options):
        page, complaints = open_browser_page(**options)
        # Browsers request an icon at the root, too.
        complaints.allow("Failed to load resource: .* 404")
        page.on("request", lambda request: requested.append(request.url))
        page.goto(f"{site}/{path}")
        return page

    yield open_one
    assert [url for url in requested if not url.startswith((site, "data:"))] == []


@pytest.mark.parametrize(
    ("words", "title"),
    [("redis sentinel", "Connect to Redis"), ("max-message-size", "Options"), ("频道", "五分钟入门")],
)
def test_the_search_finds_pages_in_english_and_chinese(open_page, words, title):
    page = open_page("index.html")
    page.get_by_placeholder("Search").fill(words)
    page.keyboard.press("Enter")
    page.locator("ul.search a", has_text=title).first.wait_for()


def test_the_navigation_has_a_section_for_each_purpose_and_for_chinese_with_every_page(open_page):
    open_page("index.html").wait_for_url("**/docs/README.html")
    page = open_page("docs/security.html")
    captions = [each.casefold() for each in page.locator(".sidebar-tree .caption").all_inner_texts()]
    guides = [each for each in captions if each.startswith("how to: ")]
    assert len(guides) >= 5
    assert captions == ["tutorials", *guides, "reference", "explanation", "more", "中文"]
    linked = {Path(link).name for link in page.locator(".sidebar-tree a").evaluate_all("all => all.map(a => a.href)")}
    pages = [*ROOT.glob("docs/*/*.md"), ROOT / "CHANGELOG.md", ROOT / "README.zh-CN.md"]
    assert {f"{each.stem}.html" for each in pages} - linked == set()


@pytest.mark.parametrize("viewport", [{"width": 390, "height": 844}, {"width": 1280, "height": 800}], ids=str)
@pytest.mark.parametrize(
    "path", ["docs/README.html", "docs/reference/options.html", "README.zh-CN.html", "docs/security.html"]
)
def test_no_page_is_wider_than_the_window(open_page, path, viewport):
    page = open_page(path, viewport=viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_the_colours_follow_the_system(open_page):
    colours = {
        scheme: open_page("docs/README.html", color_scheme=scheme).evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    }
    assert colours["light"] != colours["dark"]


def test_the_reference_of_the_python_api_has_the_methods_from_the_source(open_page):
    page = open_page("docs/reference/python-api.html")
    assert "delivered" in page.locator("dl.py.method", has_text="publish(").first.inner_text()

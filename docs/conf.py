"""
The documentation as a site: Sphinx with MyST and Furo, from the Markdown files that GitHub shows, too.

`make site` builds it into build/site, as `make lint` does, and fails on a warning. The files contain no directives of
Sphinx: this file adds the navigation, whose order is that of the links in docs/README.md, and the Python API.
"""

import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.search.en import SearchEnglish

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "wsserver"
author = "the wsserver contributors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/README"
include_patterns = ["README*.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**.md"]
# The other directories are not searched for pages.
exclude_patterns = [f"{path.name}" for path in ROOT.iterdir() if path.is_dir() and path.name != "docs"]

html_theme = "furo"
html_title = "wsserver"
templates_path = ["_templates"]
html_additional_pages = {"index": "index.html"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "../static/favicon.svg"
html_logo = "../static/favicon.svg"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

myst_heading_anchors = 4
# Names of blocks, such as `text console`, say how a test runs them. They are not names of lexers.
suppress_warnings = ["misc.highlighting_failure", "config.cache"]
highlight_language = "text"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_include_init_with_doc = False

SECTIONS = {"Tutorials": "tutorials", "Reference": "reference", "Explanation": "explanation"}
"""Caption in the navigation -> directory in docs."""
MORE = {"More": ["README", "docs/security", "SECURITY", "CONTRIBUTING", "CHANGELOG"]}

API = {
    "wsserver.service.WebSocketService": "startService, stopService, abort, reload, stop_accepting",
    "wsserver.web.resource.WebSocketResource": "",
    "wsserver.config.settings.Settings": "from_environment, from_file, load",
    "wsserver.wire.protocol.ServerProtocol": "close",
    "wsserver.hub.hub.Hub": "publish, listen, history, count, counts",
    "wsserver.testing.MemoryServer": "connect",
    "wsserver.testing.MemoryClient": "open, head, response, send, send_text, send_frame, send_close, frames, messages, "
    "close_frame",
    "wsserver.errors.WsserverError": "",
    "wsserver.errors.SettingError": "",
    "wsserver.errors.ListenError": "",
    "wsserver.errors.BrokerDown": "",
    "wsserver.errors.NotEnabled": "",
    "wsserver.errors.NotPermitted": "",
}
"""Class of the reference of the Python API -> its members there."""


def order_pages(directory: str) -> list[str]:
    """Return the pages of a directory in the order in which docs/README.md links to them; then all others."""
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    linked = re.findall(rf"\(({directory}/[\w-]+)\.md", index)
    found = sorted(str(path.relative_to(ROOT / "docs"))[:-3] for path in (ROOT / "docs" / directory).glob("*.md"))
    return [f"docs/{name}" for name in dict.fromkeys([*linked, *found]) if name in found]


def group_guides() -> dict[str, list[str]]:
    """Return the how-to guides by the first column of the table in docs/README.md."""
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    groups: dict[str, list[str]] = {}
    caption = ""
    for row in re.findall(r"^\| (?!if you|--)(.*) \|$", index, re.MULTILINE):
        purpose, _, links = row.partition("|")
        caption = f"How to: {purpose.strip()}" if purpose.strip() else caption
        groups.setdefault(caption, []).extend(re.findall(r"\((how-to/[\w-]+)\.md", links))
    return {caption: [f"docs/{name}" for name in dict.fromkeys(names)] for caption, names in groups.items()}


def navigation() -> Iterator[str]:
    """Return the directives of the navigation."""
    tutorials, *others = ((caption, order_pages(directory)) for caption, directory in SECTIONS.items())
    guides = group_guides()
    found = {page for pages in guides.values() for page in pages}
    rest = {"How to: more": [page for page in order_pages("how-to") if page not in found]}
    chinese = {"中文": ["README.zh-CN", *order_pages("zh")]}
    for caption, pages in (dict([tutorials]) | guides | rest | dict(others) | MORE | chinese).items():
        entries = [f"/{page}" for page in pages]
        if entries:
            yield "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *entries, "```", ""])


def python_api() -> Iterator[str]:
    """Return the directives of the reference of the Python API."""
    for name, members in API.items():
        shown = f"\n   :members: {members}" if members else "\n   :no-members:"
        yield f"```{{eval-rst}}\n.. autoclass:: {name}{shown}\n```\n"


def add_directives(app: Sphinx, name: str, source: list[str]) -> None:
    """Add what only the site has to the text of a page."""
    # The second word of ```sh install is read by a test; for Sphinx, only the first counts.
    text = re.sub(r"^(```\w+) +[\w. -]+$", r"\1", source[0], flags=re.MULTILINE)
    text = re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s#:]+)\)", partial(keep_link, (ROOT / name).parent), text)
    if name == root_doc:
        text += "\n" + "\n".join(navigation())
    if name == "docs/reference/python-api":
        text += "\n" + "\n".join(python_api())
    source[0] = text


def keep_link(directory: Path, link: re.Match[str]) -> str:
    """Return a link; without its target if the site does not have it, because it is a directory or a page of others."""
    target = (directory / link[2]).resolve()
    is_page = target.suffix == ".md" and (target.parent == ROOT or target.is_relative_to(ROOT / "docs"))
    return link[0] if is_page or (target.is_file() and target.suffix != ".md") else link[1]


def mark_code(*arguments: Any) -> None:
    """Turn the code spans of a docstring, which are those of Markdown, into those of reStructuredText."""
    lines: list[str] = arguments[-1]
    text = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``\\ ", "\n".join(lines))
    lines[:] = text.split("\n")


class SearchTwoLanguages(SearchEnglish):
    """English words; and of Chinese text, which has no spaces, each run and each pair of characters."""

    lang = "en"

    def split(self, text: str) -> list[str]:
        """Return the words of a text."""
        words = super().split(text)
        runs = re.findall(r"[\u4e00-\u9fff]{2,}", text)
        return words + runs + [run[at : at + 2] for run in runs for at in range(len(run) - 1)]


class Navigation:
    """Rewrites all pages if the navigation, which is on all of them, has changed."""

    changed = False

    def find_outdated(
        self, app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
    ) -> list[str]:
        """Return the page with the navigation if it has to be read again."""
        self.changed = bool(added or removed or root_doc in changed)
        return [root_doc] if self.changed else []

    def find_updated(self, app: Sphinx, env: BuildEnvironment) -> list[str]:
        """Return the pages to write again."""
        return sorted(env.found_docs) if self.changed else []


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the functions of this file."""
    app.add_search_language(SearchTwoLanguages)
    navigation = Navigation()
    app.connect("env-get-outdated", navigation.find_outdated)
    app.connect("env-updated", navigation.find_updated)
    app.connect("source-read", add_directives)
    app.connect("autodoc-process-docstring", mark_code)
    return {"parallel_read_safe": True}

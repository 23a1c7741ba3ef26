"""Relative links of the documentation lead to files and headings that exist, and every option is documented."""

import argparse
import importlib.util
import json
import re
import shlex
from collections import Counter

import pytest
from paths import ROOT

from wsserver.cli import bench, doctor, replay
from wsserver.config.reference import options_page
from wsserver.config.settings import TABLE, Settings
from wsserver.tap import Options

PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]


def prose(page):
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    """Return the anchors that GitHub gives to the headings of a page."""
    seen = Counter()
    names = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        names.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


def relative_links(page):
    """Return the targets of a page's links to files of the project."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if not re.match(r"https?:", target)]


def target_of(page, link):
    """Return the file and the heading that a link names."""
    path, _, anchor = link.partition("#")
    return (page.parent / path).resolve() if path else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_target_and_heading_of_every_relative_link_exist(page):
    broken = []
    for link in relative_links(page):
        file, anchor = target_of(page, link)
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_named_in_the_text_exists(page):
    named = re.findall(r"(?<![\w/\[(.])(?:docs|tests|benchmarks)/[\w./-]+\.(?:md|py)\b", prose(page))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_page_is_linked_from_some_page():
    linked = {target_of(page, link)[0] for page in PAGES for link in relative_links(page)}
    assert [page.name for page in PAGES[3:] if page.resolve() not in linked] == []


def test_every_options_flag_is_named_in_the_documentation():
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    assert [option.flag for option in TABLE.values() if not re.search(rf"{option.flag}\b(?!-)", text)] == []


def code_spans(page):
    """Return the code spans of a page that begin with a flag."""
    return re.findall(r"`(--[a-z][^`]*)`", prose(page))


def test_every_flag_in_a_code_span_exists():
    known = {option.flag for option in TABLE.values()}
    # Flags of the other commands, of `twistd` and `redis-server`, and of this project's own tools.
    known |= {
        "--config",
        "--json",
        "--url",
        "--count",
        "--since",
        "--rewind",
        "--filter",
        "--format",
        "--token",
        "--claims",
        "--channel",
        "--output",
    }
    # Of `wsserver conformance`.
    known |= {"--cases", "--list", "--junit", "--timeout", "--jobs"}
    known |= {
        "--uid",
        "--logfile",
        "--rundir",
        "--pidfile",
        "--only",
        "--seed",
        "--help",
        "--quick",
        "--tls",
        "--hook-",
        "--",
        "--save",
        "--tag",
    }
    known |= {
        # Docker
        "--build-arg",
        "--cap-drop",
        "--health-cmd",
        "--log-opt",
        "--no-healthcheck",
        "--read-only",
        "--security-opt",
    }
    for command in (bench, doctor, replay):
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        known |= set(re.findall(r"--[a-z-]+", parser.format_help()))
    flags = {flag for page in PAGES for span in code_spans(page) for flag in re.findall(r"(?<!\S)--[a-z-]*", span)}
    assert sorted(flags - known) == []


def test_every_method_of_the_api_that_a_page_names_exists():
    known = {
        path.rpartition("/")[2] for path in json.loads((ROOT / "docs/reference/openapi.json").read_text())["paths"]
    }
    named = {name for page in PAGES for name in re.findall(r"(?<![\w.])/api/(\w+)", page.read_text("utf-8"))}
    assert named - known - {"METHOD", "unknown", "openapi"} == set()


GUIDE = ROOT / "docs" / "how-to" / "test-a-client.md"


@pytest.mark.parametrize("span", sorted({span for span in code_spans(GUIDE) if re.search(r" [^-]", span)}))
def test_the_options_in_the_guide_for_testing_clients_are_accepted(span):
    options = Options()
    options.parseOptions(shlex.split(span))
    assert options.settings != Settings()


def test_the_options_reference_is_what_make_docs_generates():
    assert (ROOT / "docs/reference/options.md").read_text("utf-8") == options_page()


@pytest.mark.parametrize(("name", "text"), [("history_size", "As [`--history-size`]"), ("hook_publish", "Whether ")])
def test_only_a_key_of_a_channel_table_that_is_also_an_option_refers_to_the_option(name, text):
    assert f"\n| `{name}` | {text}" in (ROOT / "docs/reference/options.md").read_text("utf-8")


CHANGED = (ROOT / "CHANGELOG.md").read_text("utf-8").partition("### Changed")[2].partition("### Fixed")[0]
NEW_PATHS = re.findall(r"`(wsserver(?:\.\w+)+)", " ".join(re.findall(r"^\|[^|]*\|([^|]*)\|$", CHANGED, re.MULTILINE)))


@pytest.mark.parametrize("module", NEW_PATHS)
def test_each_new_import_path_in_the_changelog_exists(module):
    assert importlib.util.find_spec(module)

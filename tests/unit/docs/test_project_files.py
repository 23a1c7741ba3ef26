"""The files for contributors: issue forms, the list of make targets, and what the pages say about them."""

import re
import subprocess
import sys

import pytest
from paths import DOCS, ROOT

FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))

PAGES = [*ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.md"), *DOCS.rglob("*.md"), ROOT / "benchmarks" / "README.md"]

TARGET = re.compile(r"^([a-z][a-z-]*)(?=[^=\n]*?:(?!=))", re.MULTILINE)


def run_make(*arguments):
    """Run make in the checkout; return what it prints."""
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_each_issue_form_has_the_form_that_github_demands(form):
    schema = "vendor.github-issue-config" if form.name == "config.yml" else "vendor.github-issue-forms"
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(form)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_forms_for_bugs_documentation_and_features():
    assert [form.stem for form in FORMS] == ["bug", "config", "documentation", "feature"]


def test_make_alone_lists_the_targets_and_does_nothing_else():
    listed = run_make()
    assert listed == run_make("help")
    found = dict(re.findall(r"^  make ([a-z-]+) +(.+)$", listed, re.MULTILINE))
    assert {"serve", "test", "lint", "docs", "bench", "clean"} <= found.keys()
    assert found["serve"].startswith("start the server")
    assert len(found) == len(re.findall(r"^  make ", listed, re.MULTILINE))


def test_every_make_target_that_a_page_names_exists_and_is_listed():
    text = (ROOT / "Makefile").read_text("utf-8")
    listed = set(re.findall(r"^  make ([a-z-]+)", run_make(), re.MULTILINE))
    assert listed <= set(TARGET.findall(text))
    spans = [
        span
        for page in PAGES
        for span in re.findall(r"(?:`|^    |^)make ([a-z][a-z-]*)", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert {"test", "serve", "compliance", "fuzz-sockets"} <= set(spans)
    assert set(spans) - listed == set()

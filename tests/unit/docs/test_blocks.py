"""Every code block of the documentation is run by a test, or checked here, or listed here with a reason."""

import re
from pathlib import Path

import pytest
from code_blocks import CHECKS, CodeBlock, read_code_blocks
from paths import ROOT, TESTS

from wsserver.cli import main

PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [block for page in PAGES for block in read_code_blocks(page)]

WALK = "browser/test_docs.py"
RUN = {
    "README.md": WALK,
    "docs/tutorials/first-five-minutes.md": WALK,
    "docs/tutorials/push-from-redis.md": WALK,
    "docs/tutorials/push-from-http.md": WALK,
    "docs/tutorials/embed-in-twisted.md": WALK,
    "docs/how-to/move-from-echo-server.md": WALK,
    "docs/how-to/move-from-openresty.md": WALK,
    "README.zh-CN.md": "unit/docs/test_translations.py",
    "docs/zh/first-five-minutes.md": "unit/docs/test_translations.py",
    "docs/how-to/django.md": "browser/test_django.py",
    "docs/how-to/move-from-nchan.md": "integration/docs/test_move_from_nchan.py",
    "docs/how-to/move-from-centrifugo.md": "integration/docs/test_move_from_centrifugo.py",
    "docs/how-to/authentication.md": "integration/docs/test_authentication.py",
    "docs/tutorials/centrifuge-sdk.md": "integration/docs/test_centrifuge_sdk.py",
}
"""Page -> the test that runs all its blocks."""

RUN_IN_PART = {
    ("docs/how-to/pytest.md", "python"): "integration/pytest_plugin/test_plugin.py",
    ("docs/how-to/add-a-command.md", "toml"): "unit/docs/test_examples.py",
    ("docs/how-to/test-an-application.md", "python"): "unit/docs/test_examples.py",
    ("docs/how-to/hooks.md", "text"): "integration/docs/test_hooks.py",
    ("docs/how-to/nginx.md", "nginx"): "integration/docs/test_proxy_files.py",
    ("docs/how-to/haproxy.md", "haproxy"): "integration/docs/test_proxy_files.py",
    ("docs/how-to/caddy.md", "caddy"): "integration/docs/test_proxy_files.py",
    ("docs/how-to/systemd.md", "ini"): "packaging/test_systemd.py",
    ("docs/reference/http-api.md", "sh"): "integration/docs/test_http_api.py",
    ("docs/reference/configuration.md", "text"): "integration/docs/test_reference.py",
    ("docs/reference/paths.md", "text"): "integration/docs/test_reference.py",
    ("docs/reference/wire.md", "text"): "integration/docs/test_reference.py",
    ("docs/reference/channels.md", "console"): "integration/docs/test_reference.py",
}
"""Page and language -> the test that runs the page's blocks in this language."""

REASONS = {
    ("docs/explanation/design.md", "     kernel"): "a diagram",
    ("docs/explanation/design.md", "POST /api/publish"): "a diagram",
    ("docs/how-to/add-a-command.md", "dice/"): "the names of the files in docs/examples/dice",
    ("docs/how-to/conformance.md", "FAILED "): "the output for a client with a fault",
    ("docs/how-to/proxies.md", "X-Forwarded-For:"): "a header",
    ("docs/reference/tap.md", "WSServer-Connection-Id:"): "headers",
    ("docs/reference/close-codes.md", "proxy_http_version"): "lines of packaging/nginx/wsserver.conf, which tests run",
}
"""(page, beginning of a block) -> why no test runs or checks the block."""


def reason_for(block: CodeBlock) -> tuple[str, str] | None:
    """Return the entry of `REASONS` for a block, or None."""
    return next((key for key in REASONS if key[0] == block.page and block.text.startswith(key[1])), None)


def is_run(block: CodeBlock) -> bool:
    """Return whether a test runs the block."""
    return block.page in RUN or (block.page, block.kind) in RUN_IN_PART


CHECKED = [block for block in BLOCKS if not is_run(block) and reason_for(block) is None]


@pytest.mark.parametrize("block", CHECKED, ids=str)
def test_a_block_that_no_test_runs_is_valid_in_its_language(block):
    check = CHECKS.get(block.kind)
    assert check, f"run {block} in a test, or list it with the reason why not"
    check(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_wsserver_in_the_text_exists(page):
    words = {span.split()[1] for span in re.findall(r"`(wsserver [a-z][^`]*)`", page.read_text("utf-8"))}
    assert words - main._COMMANDS.keys() == set()


NAMED = {*RUN.items(), *((page, test) for (page, _), test in RUN_IN_PART.items())}


@pytest.mark.parametrize(("page", "test"), sorted(NAMED))
def test_the_test_that_runs_a_page_names_it(page, test):
    assert Path(page).stem in (TESTS / test).read_text("utf-8")


def test_each_page_that_a_test_runs_has_blocks_in_the_language():
    assert RUN_IN_PART.keys() - {(block.page, block.kind) for block in BLOCKS} == set()
    assert RUN.keys() - {block.page for block in BLOCKS} == set()


def test_each_listed_block_exists():
    found = {reason_for(block) for block in BLOCKS}
    assert REASONS.keys() - found == set()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("sh", "wsserver serve --prot 8080"),
        ("sh", "WSSERVER_API_KEY=secret wsserver serve --interface 0.0.0.0 --prot 1 2>log.txt &"),
        ("sh", "wsserver doctor --wiat 1s ws://localhost"),
        ("sh", "twistd -n wsserver --history-size many"),
        ("sh", "make everything"),
        ("sh", "python tests/nowhere.py"),
        ("sh", "curl -s http://127.0.0.1 | unknown-program"),
        ("sh", "echo 'unfinished"),
        ("console", "$ wsserver serv"),
        ("options", "--hook-cnnect http://127.0.0.1:3000/"),
        ("python", "def f(:"),
        ("js", "const = 1;"),
        ("json", '{"a": 1} {'),
        ("toml", 'history_sise = 1\n'),
        ("yaml", "a: [1"),
        ("text", "connection opned number=1"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_block_is_found(kind, text):
    with pytest.raises((Exception, SystemExit)):
        CHECKS[kind](CodeBlock("page.md", kind, "", text + "\n", 1))

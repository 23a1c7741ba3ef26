"""Every code block of the documentation is run by a test, or listed here with the reason why none runs it."""

import re
from collections.abc import Mapping
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
    ("docs/reference/paths.md", "console"): "integration/docs/test_reference.py",
    ("docs/how-to/hooks.md", "sh"): "integration/docs/test_hooks.py",
    ("docs/how-to/add-a-command.md", "python"): "unit/docs/test_examples.py",
    ("docs/reference/http-api.md", "json"): "integration/docs/test_http_api.py",
    ("docs/reference/http-api.md", "python"): "integration/docs/test_http_api.py",
}
"""Page and language -> the test that runs the page's blocks in this language."""

TESTERS, OPERATORS = "integration/docs/test_guides_of_testers.py", "integration/docs/test_guides_of_operators.py"
APPLICATIONS, CONFORMANCE = "unit/docs/test_application_pages.py", "integration/cli/test_conformance.py"
KUBERNETES, CHANNELS = "packaging/test_kubernetes.py", "integration/docs/test_guides_of_channels.py"
RUN_BLOCKS = {
    ("docs/how-to/test-a-client.md", "wsserver serve\n"): TESTERS,
    ("docs/how-to/test-a-client.md", "wsserver serve --faults"): TESTERS,
    ("docs/reference/faults.md", "wsserver serve --faults"): TESTERS,
    ("docs/reference/faults.md", "from wsserver.endpoints.faults import make_fault"): TESTERS,
    ("docs/how-to/record-and-replay.md", "SECRET="): TESTERS,
    ("docs/how-to/record-and-replay.md", "wsserver replay"): TESTERS,
    ("docs/reference/tap.md", "WSServer-Connection-Id:"): TESTERS,
    ("docs/reference/tap.md", "const bytes"): TESTERS,
    ("docs/reference/tap.md", "curl -N -H"): TESTERS,
    ("docs/reference/tap.md", '{"id":3'): TESTERS,
    ("docs/reference/whoami.md", "curl http"): TESTERS,
    ("docs/how-to/conformance.md", "wsserver serve --cases"): TESTERS,
    ("docs/how-to/conformance.md", "wsserver conformance -- python client.py"): CONFORMANCE,
    ("docs/how-to/conformance.md", "wsserver conformance -- node client.mjs"): CONFORMANCE,
    ("docs/how-to/conformance.md", "wsserver conformance --junit conformance.xml"): CONFORMANCE,
    ("docs/how-to/conformance.md", "wsserver conformance -- python walk.py"): CONFORMANCE,
    ("docs/how-to/conformance.md", "wsserver conformance -- python browser.py"): CONFORMANCE,
    ("docs/how-to/conformance.md", "wsserver conformance --tls -- python client.py"): CONFORMANCE,
    ("docs/how-to/conformance.md", "wsserver conformance --tls -- node client.mjs"): CONFORMANCE,
    ("docs/how-to/conformance.md", "FAILED "): CONFORMANCE,
    ("docs/how-to/admin-page.md", "WSSERVER_API_KEY=secret wsserver serve\n"): OPERATORS,
    ("docs/how-to/admin-page.md", "WSSERVER_API_KEY=secret wsserver serve --interface"): OPERATORS,
    ("docs/how-to/monitoring.md", "wsserver serve --metrics on"): OPERATORS,
    ("docs/how-to/monitoring.md", "scrape_configs:"): OPERATORS,
    ("docs/how-to/logs.md", "2026-"): OPERATORS,
    ("docs/how-to/logs.md", "connections refused"): OPERATORS,
    ("docs/how-to/logs.md", "curl"): OPERATORS,
    ("docs/how-to/health.md", "$ curl -i"): OPERATORS,
    ("docs/how-to/health.md", "containers:"): KUBERNETES,
    ("docs/how-to/stop-and-reload.md", "kill -HUP PID"): OPERATORS,
    ("docs/how-to/stop-and-reload.md", "options reloaded"): OPERATORS,
    ("docs/how-to/stop-and-reload.md", "options not reloaded"): OPERATORS,
    ("docs/how-to/stop-and-reload.md", "options changed that need a restart"): OPERATORS,
    ("docs/how-to/stop-and-reload.md", "terminationGracePeriodSeconds:"): KUBERNETES,
    ("docs/how-to/stop-and-reload.md", "class Lookup(ServerProtocol)"): APPLICATIONS,
    ("docs/how-to/stop-and-reload.md", "def reload()"): APPLICATIONS,
    ("docs/how-to/workers.md", "wsserver serve --workers auto"): OPERATORS,
    ("docs/how-to/workers.md", "channels, the HTTP API and /emulation need --redis"): (
        "integration/process/test_workers.py"
    ),
    ("docs/how-to/tls.md", "openssl"): "integration/docs/test_tls.py",
    ("docs/how-to/tls.md", "wsserver serve --port 8443 --tls-cert fullchain"): OPERATORS,
    ("docs/how-to/tls.md", "the page is at"): OPERATORS,
    ("docs/how-to/tls.md", "tls handshake failed"): OPERATORS,
    ("docs/how-to/tls.md", "wsserver serve --listen"): OPERATORS,
    ("docs/how-to/tls.md", "from wsserver.wire.certificates"): OPERATORS,
    ("docs/how-to/tls.md", "cat > /etc/letsencrypt"): OPERATORS,
    ("docs/how-to/tls.md", "certificate renewed"): "unit/listening/test_renewal.py",
    ("docs/how-to/listening.md", "wsserver serve --port 9000"): OPERATORS,
    ("docs/how-to/listening.md", "wsserver serve --listen"): OPERATORS,
    ("docs/how-to/listening.md", "twistd --pidfile"): OPERATORS,
    ("docs/how-to/proxies.md", "wsserver serve --trusted-proxy"): OPERATORS,
    ("docs/how-to/proxies.md", "X-Forwarded-For:"): OPERATORS,
    ("docs/how-to/cross-origin.md", "wsserver serve --origin"): OPERATORS,
    ("docs/how-to/cross-origin.md", "const source"): OPERATORS,
    ("docs/how-to/cross-origin.md", "function follow"): "browser/test_eventsource.py",
    ("docs/how-to/cross-origin.md", "wsserver serve --api-key"): OPERATORS,
    ("docs/how-to/redis.md", "pip install '.[redis]'"): OPERATORS,
    ("docs/how-to/redis.md", "redis-cli ACL"): OPERATORS,
    ("docs/how-to/redis.md", "Redis at redis://10.0.0.2:6379/0"): OPERATORS,
    ("docs/how-to/diagnose-a-connection.md", "$ wsserver doctor ws://127.0.0.1:8080"): (
        "integration/docs/test_command_output.py"
    ),
    ("docs/how-to/diagnose-a-connection.md", "$ wsserver doctor ws://127.0.0.1:8000"): OPERATORS,
    ("docs/how-to/diagnose-a-connection.md", "wsserver doctor wss://push.example.com"): CHANNELS,
    ("docs/how-to/diagnose-a-connection.md", "wsserver doctor wss://example.com"): CHANNELS,
    ("docs/how-to/diagnose-a-connection.md", "WSSERVER_TOKEN="): CHANNELS,
    ("docs/how-to/measure-a-server.md", "$ wsserver bench"): "integration/docs/test_command_output.py",
    ("docs/how-to/measure-a-server.md", "wsserver bench ws://127.0.0.1:8080/echo --connections"): CHANNELS,
    ("docs/how-to/measure-a-server.md", "wsserver serve --channel-publish"): CHANNELS,
    ("docs/how-to/hooks.md", "--hook-rpc"): CHANNELS,
    ("docs/how-to/hooks.md", '{"result"'): CHANNELS,
    ("docs/how-to/hooks.md", "const socket"): CHANNELS,
    ("docs/how-to/hooks.md", '{"client": "9336a229-2400-4ebc-8c50-0a643d22e8a0"'): CHANNELS,
    ("docs/how-to/hooks.md", '{"events"'): CHANNELS,
    ("docs/how-to/docker.md", "services:"): "packaging/test_docker.py",
    ("docs/how-to/embedding.md", "from wsserver.service import WebSocketService"): APPLICATIONS,
    ("docs/how-to/embedding.md", "from wsserver.web.resource import WebSocketResource"): APPLICATIONS,
    ("docs/how-to/embedding.md", "WebSocketService(\n"): APPLICATIONS,
    ("docs/how-to/embedding.md", "def on_publication"): APPLICATIONS,
    ("docs/how-to/embedding.md", "from wsserver.service import use_monotonic_clock"): APPLICATIONS,
    ("docs/how-to/embedding.md", "Settings("): "unit/docs/test_examples.py",
    ("docs/how-to/embedding.md", "# A text"): "integration/docs/test_embedding.py",
    ("docs/how-to/kubernetes.md", "# In the ConfigMap"): KUBERNETES,
    ("docs/reference/configuration.md", "spec:"): KUBERNETES,
    ("docs/reference/configuration.md", "WSSERVER_PROT="): "integration/docs/test_reference.py",
    ("docs/reference/channels.md", '[[channel]]\npattern = "quotes"'): "integration/docs/test_reference.py",
    ("docs/reference/channels.md", "wsserver serve --config quotes.toml"): "integration/docs/test_reference.py",
    ("docs/reference/channels.md", "wsserver publish quotes"): "integration/docs/test_reference.py",
    ("docs/reference/channels.md", '{"op": "or"'): CHANNELS,
    ("docs/reference/channels.md", "[[channel]]\npattern = "): CHANNELS,
    ("docs/reference/centrifuge.md", "curl -N -d"): CHANNELS,
    ("docs/reference/centrifuge.md", '{"channel":"news"'): CHANNELS,
    ("docs/reference/centrifuge.md", "[[channel]]"): CHANNELS,
    ("docs/reference/centrifuge.md", "const connect"): "browser/test_centrifuge.py",
}
"""Page and the beginning of one block or more -> the test that runs them."""

REASONS = {
    ("docs/explanation/design.md", "     kernel"): "a diagram",
    ("docs/explanation/design.md", "POST /api/publish"): "a diagram",
    ("docs/how-to/add-a-command.md", "dice/"): "the names of the files in docs/examples/dice",
    ("docs/reference/close-codes.md", "proxy_http_version"): "lines of packaging/nginx/wsserver.conf, which tests run",
}
"""(page, beginning of a block) -> why no test runs or checks the block."""

_HOURS = "takes minutes or hours; a short form of it is part of `make test`, or is run by hand"
_INSTALLS = "installs from the network; packaging/test_documented_installation.py and others install the project"
_SDK = "continues a program with an SDK; integration/endpoints/test_centrifuge_sdks.py uses the feature with each SDK"
_ROOT = "needs root and systemd as process 1; packaging/test_systemd.py checks the units with systemd-analyze"
CHECKED_ONLY = {
    ("docs/explanation/benchmarks.md", "make bench"): _HOURS,
    ("docs/explanation/fairness.md", ".venv/bin/python benchmarks/stalls.py"): _HOURS,
    ("docs/reference/chaos.md", "make chaos"): _HOURS,
    ("docs/reference/chaos.md", "python tests/chaos/run.py"): _HOURS,
    ("docs/reference/soak.md", "make soak"): _HOURS,
    ("docs/how-to/run-long-tests.md", ""): _HOURS,
    ("docs/how-to/build-packages.md", "python -m build"): "packaging/conftest.py builds",
    ("docs/how-to/build-packages.md", "WSSERVER_BUILD_EXTENSION=0"): "packaging/test_wheels.py builds with it",
    ("docs/how-to/build-packages.md", "pip install cibuildwheel"): "needs Docker; see packaging/test_wheels.py",
    ("docs/how-to/add-a-command.md", "pip install ./dice"): "integration/docs/test_embedding.py installs it elsewhere",
    ("docs/how-to/pytest.md", "pip install"): _INSTALLS,
    ("docs/how-to/test-an-application.md", "pip install"): _INSTALLS,
    ("docs/how-to/docker.md", "docker build"): "needs Docker; packaging/test_docker.py checks the file",
    ("docs/how-to/kubernetes.md", "kubectl create secret"): "needs a cluster; see packaging/test_kubernetes.py",
    ("docs/how-to/nginx.md", "nginx -t"): "reloads the system's nginx; see test_proxy_files.py",
    ("docs/how-to/haproxy.md", "haproxy -c"): "reloads the system's HAProxy; see test_proxy_files.py",
    ("docs/how-to/systemd.md", ""): _ROOT,
    ("docs/how-to/tls.md", "certbot certonly"): "needs a public domain",
    ("docs/how-to/tls.md", "mkcert"): "adds an authority to the system's browsers",
    ("docs/how-to/measure-a-server.md", "taskset"): "measures another server of the reader",
    ("docs/how-to/hooks.md", "const { data }"): _SDK,
    ("docs/reference/centrifuge.md", "const client"): _SDK,
    ("docs/reference/centrifuge.md", "const sub "): _SDK,
    ("docs/reference/centrifuge.md", "client.newSubscription"): _SDK,
}
"""(page, beginning of a block, or empty for all blocks) -> why the block is only checked for validity."""


def find_entry(table: Mapping[tuple[str, str], str], block: CodeBlock) -> tuple[str, str] | None:
    """Return the entry of a table for a block, or None."""
    return next((key for key in table if key[0] == block.page and block.text.startswith(key[1])), None)


def is_run(block: CodeBlock) -> bool:
    """Return whether a test runs the block."""
    return block.page in RUN or (block.page, block.kind) in RUN_IN_PART or find_entry(RUN_BLOCKS, block) is not None


CHECKED = [block for block in BLOCKS if not is_run(block) and find_entry(REASONS, block) is None]


@pytest.mark.parametrize("block", CHECKED, ids=str)
def test_a_block_that_no_test_runs_has_a_reason_and_is_valid_in_its_language(block):
    assert find_entry(CHECKED_ONLY, block), f"run {block} in a test, or list it with the reason why not"
    CHECKS[block.kind](block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_wsserver_in_the_text_exists(page):
    words = {span.split()[1] for span in re.findall(r"`(wsserver [a-z][^`]*)`", page.read_text("utf-8"))}
    assert words - main._COMMANDS.keys() == set()


NAMED = {*RUN.items(), *((page, test) for (page, _), test in (*RUN_IN_PART.items(), *RUN_BLOCKS.items()))}


@pytest.mark.parametrize(("page", "test"), sorted(NAMED))
def test_the_test_that_runs_a_page_names_it(page, test):
    assert Path(page).stem in (TESTS / test).read_text("utf-8")


@pytest.mark.parametrize(("key", "test"), RUN_BLOCKS.items(), ids=str)
def test_a_test_with_the_blocks_of_guides_takes_the_block(key, test):
    """Such a test fails if the block does not exist, or if there are two."""
    source = (TESTS / test).read_text("utf-8")
    first = key[1].partition("\n")[0]
    takes = "Guide(" not in source or first.removeprefix("$ ") in source
    assert takes, f"{test} does not contain {first!r}"


def test_each_page_that_a_test_runs_has_blocks_in_the_language():
    assert RUN_IN_PART.keys() - {(block.page, block.kind) for block in BLOCKS} == set()
    assert RUN.keys() - {block.page for block in BLOCKS} == set()


def test_each_listed_block_exists_and_is_in_one_table():
    rest = [block for block in BLOCKS if block.page not in RUN and (block.page, block.kind) not in RUN_IN_PART]
    found = [(find_entry(RUN_BLOCKS, block), find_entry(REASONS, block)) for block in rest]
    assert RUN_BLOCKS.keys() - {run for run, _ in found} == set()
    assert REASONS.keys() - {reason for _, reason in found} == set()
    assert [both for both in found if None not in both] == []
    assert CHECKED_ONLY.keys() - {find_entry(CHECKED_ONLY, block) for block in CHECKED} == set()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("sh", "wsserver serve --prot 8080"),
        ("sh", "WSSERVER_API_KEY=secret wsserver serve --interface 0.0.0.0 --prot 1 2>log.txt &"),
        ("sh", "wsserver doctor --wiat 1s ws://localhost"),
        ("sh", "twistd -n wsserver --history-size many"),
        ("sh", "make everything"),
        ("sh", "python tests/nowhere.py"),
        ("sh", "python tests/chaos/run.py --olny 'Redis killed and started'"),
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

"""T26: paths and ranges that make servers of files reveal others, or work without an end."""

import os
import time

import pytest
from peers import RawPeer

PATHS = [
    "/../etc/passwd",
    "/../../../../etc/passwd",
    "/..",
    "/../",
    "/./../etc/passwd",
    "/%2e%2e/etc/passwd",
    "/%2e%2e%2fetc/passwd",
    "/%2E%2E/%2E%2E/etc/passwd",
    "/..%2fetc%2fpasswd",
    "/..%5cetc%5cpasswd",
    "/..\\etc\\passwd",
    "/%252e%252e/etc/passwd",
    "/%c0%ae%c0%ae/etc/passwd",
    "/%uff0e%uff0e/etc/passwd",
    "/....//etc/passwd",
    "/..;/etc/passwd",
    "//etc/passwd",
    "///etc/passwd",
    "/etc/passwd",
    "/%2fetc%2fpasswd",
    "/%2f/etc/passwd",
    "/main.js/",
    "/main.js/../../pyproject.toml",
    "/main.js/..%2f..%2fpyproject.toml",
    "/main.js%00",
    "/main.js%00.html",
    "/%00",
    "/%00/main.js",
    "/main.js%20",
    "/main.js.",
    "/main.js::$DATA",
    "/MAIN.JS",
    "/main.js~",
    "/.main.js.swp",
    "/main.js.bak",
    "/.git",
    "/.git/config",
    "/.git/HEAD",
    "/.env",
    "/.htaccess",
    "/.DS_Store",
    "/.well-known/../.git/config",
    "/dev/zero",
    "/dev/stdin",
    "/proc/self/environ",
    "/proc/self/fd/0",
    "/static",
    "/static/",
    "/static/main.js",
    "/wsserver.toml",
    "/server.log",
    "/fifo",
    "/link-out",
    "/link-in.js",
    "/directory/",
    "/con",
    "/file:///etc/passwd",
    "/" + "a" * 5000,
    "/" + "a/" * 2000,
    "/%ff%fe",
    "/%e2%80%ae.js",
    "/%",
    "/%zz",
    "/index.html/..",
    "/?file=../etc/passwd/../nothing.html&x=/x",
]
PATHS[-1] = "/nothing?file=../etc/passwd"
HEADERS = {
    "content-security-policy": "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}


@pytest.fixture(scope="module")
def shared(start_module_server):
    return start_module_server()


def ask(server, path, *lines):
    """Send a GET request; return its response, and the seconds that it took."""
    begin = time.monotonic()
    with RawPeer(server.port) as peer:
        response = peer.request(path, *lines)
    return response, time.monotonic() - begin


def test_t26_only_the_files_of_the_page_are_served(shared, figures):
    """A path that names no file of the page gets 404, or 400 if it is invalid, at once."""
    # They lie in the working directory of the server, which serves nothing from it.
    os.mkfifo(shared.directory / "fifo")
    (shared.directory / "link-out").symlink_to("/etc/passwd")
    answers = {path: ask(shared, path) for path in PATHS}
    wrong = {path: answer.status for path, (answer, _) in answers.items() if answer.status not in (400, 404)}
    leaks = [path for path, (answer, _) in answers.items() if b"root:" in answer.body or b"[core]" in answer.body]
    figures.at_least(50, len(PATHS), "paths")
    figures.at_most(0, len(wrong), "answers other than 400 and 404", "", wrong)
    figures.at_most(0, len(leaks), "files leaked")
    figures.at_most(100, max(seconds for _, seconds in answers.values()) * 1000, "longest answer", "ms")


@pytest.mark.parametrize("ranges", ["0-0,1-1", "0-,0-,0-", ",".join(["0-"] * 1300), "5-2,1-", "-1,-2,-3"])
def test_t26_ranges_do_not_multiply_a_file(shared, figures, ranges):
    """Several ranges of a file are answered with the file once."""
    whole, _ = ask(shared, "/main.js")
    answer, _ = ask(shared, "/main.js", f"Range: bytes={ranges}")
    assert answer.status in (200, 416)
    figures.at_most(len(whole.body), len(answer.body), "bytes of the answer")


def test_t26_every_response_restricts_the_browser(shared, figures):
    """Every response of the page tells browsers not to guess its type, and not to show it in frames of other sites."""
    missing = [
        (path, name)
        for path in ("/", "/main.js", "/style.css", "/nothing", "/echo", "/server.json")
        for name, value in HEADERS.items()
        if value not in (ask(shared, path)[0].header(name) or "")
    ]
    figures.at_most(0, len(missing), "missing headers", "", missing)

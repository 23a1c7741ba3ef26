"""Fixtures for browser tests: Chromium, Firefox, servers, and the pages under test."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from firefox import FIREFOX, Firefox, running_firefox
from person import Complaints, ServerPage
from pki import Authority
from playwright.sync_api import Browser, Page, sync_playwright
from ports import free_port
from processes import DEMOS, running_server, running_site

CHROMIUM = "/usr/bin/chromium"
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def trust_authority(store: Path, authority: Authority) -> None:
    """Write a database of trusted certificates, as the browsers have one in a user's directory."""
    database = ("-d", f"sql:{store}")
    subprocess.run(["certutil", *database, "-N", "--empty-password"], check=True)
    subprocess.run(["certutil", *database, "-A", "-t", "C,,", "-n", "test", "-i", str(authority.root)], check=True)


@pytest.fixture(scope="session")
def launch_chromium() -> Iterator[Callable[..., Browser]]:
    """Return a function that launches browsers with Playwright's options; closes them after the last test."""
    if not Path(CHROMIUM).exists():
        pytest.exit(f"the browser tests need {CHROMIUM}: apt-get install chromium", returncode=1)
    with sync_playwright() as playwright, ExitStack() as stack:

        def launch(**options: Any) -> Browser:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS, **options)
            stack.callback(browser.close)
            return browser

        yield launch


@pytest.fixture(scope="session")
def chromium(launch_chromium: Callable[..., Browser]) -> Browser:
    """Return the browser that all tests share."""
    return launch_chromium()


@pytest.fixture(scope="session")
def trusting(
    launch_chromium: Callable[..., Browser], authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Browser:
    """Start a Chromium that trusts the test's root authority; it is installed as an administrator installs one."""
    home = tmp_path_factory.mktemp("home")
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    trust_authority(store, authority)
    return launch_chromium(env={"HOME": str(home)})


@pytest.fixture(scope="session")
def firefox(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """Start a Firefox that trusts the test's root authority, as one in whose settings it is imported."""
    if not Path(FIREFOX).exists():
        pytest.exit(f"the browser tests need {FIREFOX}: apt-get install firefox-esr", returncode=1)
    profile = tmp_path_factory.mktemp("profile")
    trust_authority(profile, authority)
    with running_firefox(profile) as started:
        yield started


@pytest.fixture(scope="session")
def server_origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a server that supports the subprotocols chat and superchat; yields its origin."""
    port = free_port()
    flags = ("--subprotocol", "chat", "--subprotocol", "superchat")
    with running_server(tmp_path_factory.mktemp("server"), port, *flags):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def open_browser_page(chromium: Browser) -> Iterator[Callable[..., tuple[Page, Complaints]]]:
    """Return a function that opens empty browser pages. A browser error that the test did not allow fails the test."""
    with ExitStack() as stack:
        watched: list[Complaints] = []

        def open_one(**options: Any) -> tuple[Page, Complaints]:
            context = chromium.new_context(**options)
            stack.callback(context.close)
            page = context.new_page()
            watched.append(Complaints(page))
            return page, watched[-1]

        yield open_one
        complaints = [line for one in watched for line in one.unexpected()]
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def open_server_page(
    open_browser_page: Callable[..., tuple[Page, Complaints]], server_origin: str
) -> Callable[..., ServerPage]:
    """Return a function that opens the server's page, with browser options such as `color_scheme` or `viewport`."""

    def open_one(origin: str = server_origin, **options: Any) -> ServerPage:
        page, complaints = open_browser_page(**options)
        server_page = ServerPage(page, origin, complaints)
        server_page.open()
        return server_page

    return open_one


@pytest.fixture(scope="session")
def shared_page(chromium: Browser, server_origin: str) -> ServerPage:
    """Return the browser page that the tests share that need no special browser options."""
    page = chromium.new_context(permissions=["clipboard-read", "clipboard-write"]).new_page()
    return ServerPage(page, server_origin, Complaints(page))


@pytest.fixture
def server_page(shared_page: ServerPage) -> Iterator[ServerPage]:
    """Open the server's page, not yet connected, with empty storage."""
    shared_page.complaints.forget()
    shared_page.open()
    yield shared_page
    shared_page.page.unroute_all()
    shared_page.page.evaluate("localStorage.clear(); sessionStorage.clear()")
    shared_page.page.goto("about:blank")
    complaints = shared_page.complaints.unexpected()
    assert not complaints, "\n".join(complaints)


@pytest.fixture(scope="session")
def server_with(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Return a function that returns the origin of a server with these flags. Tests with the same flags share one."""
    with ExitStack() as stack:
        origins: dict[tuple[str, ...], str] = {}

        def start(*flags: str) -> str:
            if flags not in origins:
                port = free_port()
                stack.enter_context(running_server(tmp_path_factory.mktemp("server"), port, *flags))
                origins[flags] = f"http://127.0.0.1:{port}"
            return origins[flags]

        yield start


@pytest.fixture
def visit(server_page: ServerPage) -> Callable[[str], ServerPage]:
    """Return a function that opens the page of another server in the shared browser page."""

    def open_one(origin: str) -> ServerPage:
        page = ServerPage(server_page.page, origin, server_page.complaints)
        page.open()
        return page

    return open_one


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Return a function that starts servers. Servers still running after the test are stopped."""
    with ExitStack() as stack:

        def start(port: int, *flags: str) -> Any:
            directory = tmp_path / f"server-{port}"
            directory.mkdir()
            return stack.enter_context(running_server(directory, port, *flags))

        yield start


@pytest.fixture(scope="session")
def demo_site() -> Iterator[str]:
    """Serve the demo pages from a web site of another origin than the server; yields that origin."""
    with running_site(DEMOS) as origin:
        yield origin


@pytest.fixture(params=["over http", "from a file"])
def open_demo(
    request: pytest.FixtureRequest,
    demo_site: str,
    own_server: Callable[..., Any],
    open_browser_page: Callable[..., tuple[Page, Complaints]],
) -> Callable[..., Page]:
    """
    Return a function that opens a demo page and starts the server on the port that the page connects to.

    Each test runs twice: with the page from a web site, and from a file.
    """

    def open_one(name: str, port: int, *flags: str) -> Page:
        over_http = request.param == "over http"
        own_server(port, *flags, "--origin", demo_site if over_http else "null")
        page, complaints = open_browser_page()
        # Browsers request an icon, which the demos do not have.
        complaints.allow("Failed to load resource: .* 404")
        page.goto(f"{demo_site}/{name}" if over_http else (DEMOS / name).as_uri())
        return page

    return open_one

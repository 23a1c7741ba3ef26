"""
Firefox, driven by Puppeteer with the protocol WebDriver BiDi.

Playwright drives only a build of Firefox of its own, or the newest release; this one is the distribution's.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from node import install_node_packages
from waiting import TIMEOUT, wait_until

__all__ = ["FIREFOX", "Firefox", "FirefoxPage", "running_firefox"]

FIREFOX = "/usr/bin/firefox-esr"
DRIVER = Path(__file__).with_name("firefox_driver.mjs")
DESKTOP = {"width": 1280, "height": 900}


class FirefoxError(Exception):
    """Puppeteer's description of what failed in the browser."""


class Firefox:
    """
    A browser that a process of Puppeteer drives.

    Args:
        process: the process; it reads commands and writes answers.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._pages = 0
        self.version = self.command("version")

    def command(self, name: str, *given: Any) -> Any:
        """Execute a command of the driver; return its result."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, *given]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the driver of Firefox has ended"
        answer = json.loads(line)
        if "error" in answer:
            raise FirefoxError(f"{name} {given}: {answer['error']}")
        return answer["result"]

    def open_page(self, viewport: Mapping[str, int] = DESKTOP) -> "FirefoxPage":
        """Open an empty page."""
        self._pages += 1
        self.command("open", self._pages, viewport)
        return FirefoxPage(self, self._pages)


class FirefoxPage:
    """
    A page in Firefox.

    Args:
        firefox: the browser.
        number: the number of the page.
    """

    def __init__(self, firefox: Firefox, number: int) -> None:
        self._firefox, self._number = firefox, number

    def goto(self, url: str) -> None:
        """Load a URL."""
        self._firefox.command("goto", self._number, url)

    def goto_made(self, url: str, body: str) -> None:
        """Load a page that the server of its URL does not send, or know about."""
        self._firefox.command("gotoMade", self._number, url, body)

    def reload(self) -> None:
        """Load the page again."""
        self._firefox.command("reload", self._number)

    def evaluate(self, function: str, *given: Any) -> Any:
        """Call a JavaScript function in the page; return its result, or that of its promise."""
        return self._firefox.command("evaluate", self._number, function, *given)

    def click(self, selector: str) -> None:
        """Click an element; `::-p-aria(Send)` selects one by its accessible name."""
        self._firefox.command("click", self._number, selector)

    def fill(self, selector: str, text: str) -> None:
        """Enter a text into a field, or choose the value of a list."""
        self._firefox.command("fill", self._number, selector, text)

    def press(self, key: str) -> None:
        """Press a key."""
        self._firefox.command("press", self._number, key)

    def text(self, selector: str) -> str:
        """Return the visible text of all elements that a CSS selector selects, one line for each."""
        script = "(s) => [...document.querySelectorAll(s)].map((one) => one.innerText).join('\\n')"
        return str(self.evaluate(script, selector))

    def wait_for_text(self, selector: str, *texts: str, timeout: float = TIMEOUT) -> None:
        """Wait until the elements that a CSS selector selects show these texts."""
        wait_until(
            lambda: all(text in self.text(selector) for text in texts),
            lambda: f"{texts} in {selector}, which shows {self.text(selector)!r}",
            timeout,
        )

    def complaints(self) -> list[str]:
        """Return what the browser has complained about since the last call: errors, warnings, foreign hosts."""
        return [str(one) for one in self._firefox.command("complaints", self._number)]

    def close(self) -> None:
        """Close the page."""
        self._firefox.command("close", self._number)


@contextmanager
def running_firefox(profile: Path) -> Iterator[Firefox]:
    """
    Run Firefox without a window until the block ends.

    Args:
        profile: the directory of the user's profile; it may contain certificates.
    """
    options = {
        "executablePath": FIREFOX,
        "userDataDir": str(profile),
        "protocolTimeout": 600_000,
    }
    command = ["node", str(DRIVER), str(install_node_packages()), json.dumps(options)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Firefox(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            # Puppeteer ends Firefox when it is asked to end.
            process.terminate()
            process.wait(20)

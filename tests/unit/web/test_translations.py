"""
The Chinese of what the server writes: `static/zh-server.json` and `static/zh-cases.json`.

A table translates English sentences; `#` stands for a number. `static/i18n.js` uses it in the same way.
"""

import json
import re
from html.parser import HTMLParser

import pytest

from wsserver.config.settings import Settings
from wsserver.endpoints.cases.catalog import CASES
from wsserver.endpoints.faults.table import describe
from wsserver.testing import MemoryServer
from wsserver.web.static import static_directory

HTML = {"Accept": "text/html"}
VOID = {"br", "hr", "img", "input", "link", "meta"}
CASE_PAGES = ("/case", "/case/1", "/case/text.nul", "/case/report", "/case/report?agent=one")


class Texts(HTMLParser):
    """Collects the texts of the elements with `data-say`; and the others, which nobody translates."""

    def __init__(self, page):
        super().__init__()
        self.said, self.others, self.open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append((tag, "data-say" in dict(attrs)))

    def handle_endtag(self, tag):
        while self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tag, is_said = self.open[-1] if self.open else ("", False)
        (self.said if is_said else self.others).append(data.strip())
        assert not (is_said and "\n" in data), f"{tag}: a text in one line is expected"


def table(name):
    return json.loads((static_directory() / name).read_bytes())


def form_of(text, texts):
    """Return the key of a text in a table; None if it has none."""
    return next((one for one in (text, re.sub(r"\d+(\.\d+)*", "#", text)) if one in texts), None)


def fetch(server, target):
    client = server.connect()
    lines = "".join(f"{name}: {value}\r\n" for name, value in HTML.items())
    client.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
    client.response()
    return client.transport.written.decode()


def pages_of_the_cases():
    """Return the pages after two clients that fail different cases."""
    server = MemoryServer(Settings(cases=True))
    before = [fetch(server, target) for target in ("/case", "/case/report")]
    for number in (1, 39):
        client = server.connect()
        client.open(f"/case/{number}?agent=one")
        client.transport.lose()
    return before + [fetch(server, target) for target in CASE_PAGES]


def texts_of_the_faults():
    """Return what the page lists in its panels of faults and commands, and what `/faults` says."""
    about = describe()
    rows = [*about["faults"], {"parameters": [*about["trigger"], *about["common"]]}]
    texts = [text for row in rows for text in (row.get("summary"), row.get("right")) if text]
    texts += [one["description"] for row in rows for one in row["parameters"]]
    server = MemoryServer(Settings(faults=True))
    texts += [command["help"] for command in json.loads(fetch(server, "/server.json"))["commands"]]
    return texts + Texts(fetch(server, "/faults")).said


def texts_of_the_cases():
    texts = [text for case in CASES for text in (case.title, case.reference, case.demand)]
    texts += [text for page in pages_of_the_cases() for text in Texts(page).said]
    texts += Texts((static_directory() / "conformance.html").read_text()).said
    # What conformance.js and the reports say of results that the clients above do not have.
    script = (static_directory() / "conformance.js").read_text()
    words = re.search(r"WORDS = \{(.*?)\}", script).group(1)
    return [
        *texts,
        *re.findall(r": '([^']+)'", words),
        *(re.sub(r"\$\{\w+\}", "1", text) for text in re.findall(r"tell\(['`]([^'`]+)", script)),
        *re.findall(r"'(not tested)'", script),
        "2 frames",
    ]


SOURCES = {"zh-server.json": texts_of_the_faults, "zh-cases.json": texts_of_the_cases}


@pytest.mark.parametrize("name", SOURCES)
class TableTests:
    """A table and the texts of the server."""

    def test_translates_every_text(self, name):
        texts = table(name)
        assert [text for text in SOURCES[name]() if form_of(text, texts) is None] == []

    def test_has_no_text_that_the_server_does_not_write(self, name):
        texts = table(name)
        assert sorted(set(texts) - {form_of(text, texts) for text in SOURCES[name]()}) == []

    def test_keeps_the_numbers_of_each_text(self, name):
        assert [text for text, chinese in table(name).items() if text.count("#") != chinese.count("#")] == []


@pytest.mark.parametrize(("target", "options"), [("/faults", {"faults": True}), ("/case", {"cases": True})])
def test_a_page_says_no_sentence_that_is_not_translated(target, options):
    """What is not translated are names, addresses and values."""
    body = re.search("<main>.*</main>", fetch(MemoryServer(Settings(**options)), target), re.DOTALL).group()
    assert [text for text in Texts(body).others if re.search(r"[a-z]{2,} [a-z]{2,}", text)] == []

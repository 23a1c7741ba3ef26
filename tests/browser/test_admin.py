"""The page for operators at /admin, in Chromium."""

import json
import re
from contextlib import ExitStack

import pytest
from axe import find_barriers
from peers import RawPeer, answer_to
from person import overflow
from playwright.sync_api import expect
from ports import free_port
from processes import running_server

KEY = "secret 密钥"
"""Not ASCII: the page sends it as the server compares it."""

MARKUP = "<img src=x onerror=hacked=1>"


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """Run a server with an API key; yields its port."""
    found = free_port()
    flags = ("--api-key", KEY, "--channel-allow", "*", "--anonymous", "--max-message-size", "10000")
    with running_server(tmp_path_factory.mktemp("admin"), found, *flags):
        yield found


@pytest.fixture
def clients(port):
    """Return a function that connects clients of channels; they disconnect after the test."""
    with ExitStack() as stack:

        def connect(*paths):
            peers = []
            for path in paths:
                peer = stack.enter_context(RawPeer(port))
                assert peer.handshake(path).status == 101
                peers.append(peer)
            return peers

        yield connect


@pytest.fixture
def open_admin(open_browser_page, port):
    """Return a function that opens the page, and enters the key unless it is None."""

    def open_one(key=KEY, fragment="", **options):
        page, complaints = open_browser_page(**options)
        page.goto(f"http://127.0.0.1:{port}/admin{fragment}")
        if key is not None:
            page.get_by_label(re.compile("API key|API 密钥")).fill(key)
            page.keyboard.press("Enter")
        page.complaints = complaints
        return page

    return open_one


def rows(page):
    """Return the rows of the table that is shown."""
    return page.locator("#view-body tbody tr")


class KeyTests:
    """The page asks for the API key."""

    def test_opens_with_the_key_and_forgets_it_when_the_operator_signs_out(self, open_admin):
        page = open_admin()
        expect(page.get_by_role("status").first).to_have_text("Live")
        assert page.evaluate("Object.values(sessionStorage)") == [KEY]
        assert page.evaluate("Object.values(localStorage)") == []
        page.reload()
        expect(page.get_by_role("status").first).to_have_text("Live")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_focused()
        assert page.evaluate("Object.values(sessionStorage)") == []
        assert page.locator("#facts, #view-body").all_inner_texts() == ["", ""]
        page.reload()
        expect(page.get_by_label("API key")).to_be_focused()

    def test_says_that_a_key_is_wrong_and_keeps_asking(self, open_admin):
        page = open_admin("wrong")
        page.complaints.allow("Failed to load resource: .* 401")
        expect(page.get_by_role("alert")).to_contain_text("does not accept this key")
        expect(page.get_by_label("API key")).to_be_focused()
        page.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")
        expect(page.get_by_role("status").first).to_have_text("Live")

    def test_no_request_contains_the_key_outside_of_its_header(self, open_admin):
        page = open_admin(None)
        sent = []

        def note(request):
            sent.append(request)

        page.on("request", note)
        page.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")
        expect(rows(page).or_(page.get_by_text("No client is connected"))).not_to_have_count(0)
        assert len(sent) > 2
        for one in sent:
            assert "secret" not in one.url + (one.post_data or "")
            headers = {name for name, value in one.headers.items() if "secret" in value}
            assert headers == ({"x-api-key"} if "/api/" in one.url else set())

    @pytest.mark.parametrize(
        ("flags", "text"),
        [((), "This server has no API key"), (("--api-insecure",), "Live")],
        ids=["without a key", "insecure"],
    )
    def test_needs_no_key_from_a_server_that_has_none(self, own_server, open_browser_page, flags, text):
        other = free_port()
        own_server(other, *flags)
        page, _ = open_browser_page()
        page.goto(f"http://127.0.0.1:{other}/admin")
        expect(page.get_by_text(text)).to_be_visible()
        expect(page.get_by_label("API key")).to_be_hidden()
        expect(page.get_by_role("button", name="Sign out")).to_be_hidden()

    def test_says_that_the_server_has_gone_and_continues_when_it_is_back(self, open_browser_page, tmp_path):
        other = free_port()
        page, complaints = open_browser_page()
        complaints.allow("Failed to load resource")
        for run in ("first", "second"):
            (tmp_path / run).mkdir()
            with running_server(tmp_path / run, other, "--api-insecure"):
                if run == "first":
                    page.goto(f"http://127.0.0.1:{other}/admin")
                expect(page.get_by_role("status").first).to_have_text("Live")
            expect(page.get_by_role("alert").first).to_contain_text("No answer from the server since")


class ConnectionTests:
    """The view of the connections."""

    def test_shows_a_connection_and_closes_it_after_a_confirmation(self, open_admin, clients):
        (peer,) = clients("/ws?channel=shown")
        page = open_admin()
        page.get_by_role("searchbox").fill("SHOWN")
        expect(rows(page)).to_have_count(1)
        expect(rows(page)).to_contain_text("websocket · raw")
        rows(page).get_by_role("button", name=re.compile("^Disconnect")).click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
        dialog.get_by_role("button", name="Cancel").click()
        expect(rows(page)).to_have_count(1)
        rows(page).get_by_role("button", name=re.compile("^Disconnect")).click()
        dialog.get_by_label("Clients may connect again").check()
        dialog.get_by_role("button", name="Disconnect").click()
        expect(page.get_by_text("1 connection closed.")).to_be_visible()
        close = peer.read_close().payload
        assert (int.from_bytes(close[:2], "big"), close[2:]) == (4000, b"disconnected by the operator")
        peer.send_frame(8, close)
        expect(page.get_by_text("Nothing matches “SHOWN”.")).to_be_visible()

    def test_ends_a_subscription_of_a_centrifuge_client_and_leaves_the_others(self, open_admin, clients):
        (peer,) = clients("/connection/websocket")
        for command in ({"connect": {}}, {"subscribe": {"channel": "kept"}}, {"subscribe": {"channel": "ended"}}):
            peer.send_frame(1, json.dumps({"id": 1, **command}).encode())
            peer.read_message()
        page = open_admin()
        page.get_by_role("searchbox").fill("ended")
        page.get_by_role("button", name=re.compile("^Unsubscribe .* from ended")).click()
        page.get_by_role("dialog").get_by_role("button", name="Unsubscribe").click()
        expect(page.get_by_text("1 subscription ended.")).to_be_visible()
        assert json.loads(peer.read_message())["push"]["channel"] == "ended"
        page.get_by_role("searchbox").fill("kept")
        expect(rows(page)).to_have_count(1)
        expect(rows(page).locator(".chip bdi")).to_have_text(["kept"])

    def test_pages_through_more_connections_than_a_page_has(self, open_admin, clients):
        clients(*["/ws?channel=many"] * 120, "/ws?channel=other")
        page = open_admin()
        page.get_by_role("searchbox").fill("many")
        expect(page.get_by_text("1-50 of 120")).to_be_visible()
        seen = set()
        for shown in ("1-50 of 120", "51-100 of 120", "101-120 of 120"):
            expect(page.get_by_text(shown)).to_be_visible()
            seen |= set(rows(page).locator("[data-label='Client ID']").all_inner_texts())
            if not shown.startswith("101"):
                page.get_by_role("button", name="Next").click()
        assert len(seen) == 120
        expect(page.get_by_role("button", name="Next")).to_be_disabled()
        page.get_by_role("button", name="First").click()
        expect(page.get_by_text("1-50 of 120")).to_be_visible()

    def test_keeps_the_focus_and_the_opened_channels_while_it_is_shown_again(self, open_admin, clients):
        clients("/ws?channel=f1,f2,f3,f4,f5")
        page = open_admin()
        page.get_by_role("searchbox").fill("f5")
        page.get_by_text("2 more").click()
        button = page.get_by_role("button", name=re.compile("^Unsubscribe .* from f5"))
        button.focus()
        with page.expect_response("**/api/connections"):
            pass
        expect(button).to_be_focused()


class ViewTests:
    """The other views, and the plots."""

    def test_shows_the_channels_and_the_connections_of_one(self, open_admin, clients):
        clients("/ws?channel=crowd", "/ws?channel=crowd,other")
        page = open_admin(fragment="#channels")
        page.get_by_role("searchbox").fill("cro")
        expect(rows(page)).to_have_count(1)
        expect(rows(page)).to_contain_text("2")
        page.get_by_role("button", name="Show connections of crowd").click()
        expect(page.get_by_role("heading", name="Connections", level=2).last).to_be_visible()
        expect(rows(page)).to_have_count(2)
        page.get_by_role("button", name="Channel: crowd").click()
        expect(page.get_by_role("searchbox")).to_be_focused()
        page.go_back()
        expect(page.locator("#view-title")).to_have_text("Channels")

    def test_shows_refusals_with_their_reason_and_counts_limits_and_causes(self, open_admin, port, clients):
        with RawPeer(port) as peer:
            assert answer_to(peer, "/ws?channel=x", "Origin: https://foreign.example").status == 403
        (peer,) = clients("/echo")
        peer.send_frame(1, b"x" * 20_000)
        page = open_admin(fragment="#refusals")
        page.get_by_role("searchbox").fill("foreign")
        expect(rows(page)).to_contain_text(["403/ws"])
        expect(rows(page)).to_contain_text(["start the server with --origin https://foreign.example"])
        page.get_by_role("link", name=re.compile("^Limits")).click()
        expect(rows(page).filter(has_text="--max-message-size")).to_have_count(1)
        expect(rows(page).filter(has_text="origin")).to_have_count(1)

    def test_plots_and_the_process_show_the_traffic(self, open_admin, clients):
        (peer,) = clients("/echo")
        page = open_admin(fragment="#processes")
        expect(rows(page)).to_have_count(1)
        for _ in range(100):
            peer.send_frame(1, b"hello")
        plot = page.get_by_role("img", name=re.compile(r"^Messages per second: in [1-9][\d.,]*, out [1-9]"))
        expect(plot).to_have_count(1)
        page.wait_for_function(
            """[...document.querySelectorAll('.plot canvas')].every((one) =>
                one.getContext('2d').getImageData(0, 0, one.width, one.height).data.some((value) => value))"""
        )
        expect(page.get_by_role("img", name=re.compile(r"^Memory: \d+ MB"))).to_have_count(1)
        expect(page.get_by_role("img", name=re.compile(r"^Event loop lag: [\d.]+ ms"))).to_have_count(1)
        expect(page.get_by_role("img", name=re.compile(r"^CPU: \d+ %"))).to_have_count(1)


class SafetyTests:
    """Clients choose the names of channels and users, paths and addresses; the page holds the key."""

    def test_shows_markup_that_clients_have_chosen_as_text(self, open_admin, port, clients):
        clients("/ws?channel=" + MARKUP.replace(" ", "%20").replace("=", "%3D"))
        with RawPeer(port) as peer:
            assert answer_to(peer, "/nothing/%3Cimg%20src=x%20onerror=hacked=1%3E").status == 404
        page = open_admin()
        page.get_by_role("searchbox").fill("onerror")
        expect(rows(page)).to_contain_text([MARKUP])
        page.get_by_role("button", name=re.compile("^Unsubscribe")).click()
        expect(page.get_by_role("dialog")).to_contain_text(MARKUP)
        page.keyboard.press("Escape")
        for view in ("Channels", "Refusals"):
            page.get_by_role("link", name=re.compile(f"^{view}")).click()
            expect(rows(page).filter(has_text="onerror")).not_to_have_count(0)
        assert page.evaluate("typeof hacked") == "undefined"
        assert page.locator("img").count() == 1

    def test_its_policy_permits_no_other_server_no_frame_and_no_markup_from_text(self, open_admin):
        page = open_admin(None)
        page.complaints.allow("CSP violation|violates the following|TrustedHTML|Refused to connect")
        for script in ("document.body.innerHTML = '<b>x</b>'", "await fetch('http://localhost:9/')"):
            assert "Error" in page.evaluate(
                f"async () => {{ try {{ {script} }} catch (error) {{ return String(error) }} }}"
            )
        response = page.request.get(page.url)
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]


class AccessTests:
    """Phone, tablet and desktop; light and dark; English and Chinese; axe-core."""

    @pytest.mark.parametrize(
        "options",
        [
            {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "color_scheme": "dark"},
            {"viewport": {"width": 820, "height": 1180}, "color_scheme": "light"},
            {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark", "locale": "zh-CN"},
        ],
        ids=["phone", "tablet", "desktop"],
    )
    def test_fits_and_has_no_serious_barrier(self, open_admin, clients, options):
        clients("/ws?channel=a,b,c,d,e", "/ws?channel=" + "long" * 60)
        page = open_admin(None, **options)
        assert find_barriers(page) == []
        page.get_by_label(re.compile("API key|API 密钥")).fill(KEY)
        page.keyboard.press("Enter")
        expect(rows(page)).not_to_have_count(0)
        barriers = find_barriers(page)
        for view in ("channels", "refusals", "limits", "processes"):
            page.evaluate(f"location.hash = '{view}'")
            expect(page.locator("#tabs [aria-current]")).to_have_attribute("href", f"#{view}")
            expect(page.locator("#view-body table, #view-body .empty").first).to_be_visible()
            assert overflow(page) == 0
            barriers += find_barriers(page)
        assert barriers == []

    def test_speaks_chinese_to_a_chinese_browser_and_switches(self, open_admin):
        page = open_admin(locale="zh-CN")
        expect(page.get_by_role("status").first).to_have_text("实时")
        assert page.evaluate("document.documentElement.lang") == "zh-CN"
        page.get_by_role("button", name="English").click()
        expect(page.get_by_role("heading", name="Messages per second")).to_be_visible()
        page.reload()
        expect(page.get_by_role("status").first).to_have_text("Live")

    def test_has_the_same_texts_in_both_languages(self, open_admin):
        page = open_admin(None)
        english, chinese = page.evaluate(
            """async () => (await Promise.all([import('./admin/en.js'), import('./admin/zh.js')]))
                .map((one) => Object.keys(one.default).sort())"""
        )
        assert english == chinese

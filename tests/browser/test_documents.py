"""The pages that the server writes, and that of the conformance cases: in both languages, with and without scripts."""

import pytest
from axe import find_barriers
from peers import RawPeer
from person import overflow
from playwright.sync_api import expect

PAGES = ["/faults", "/case", "/case/1", "/case/report", "/case/report?agent=probe", "/conformance.html"]
LONG = ("/case", "/case/report?agent=probe")
"""Tables like those of other pages, with hundreds of rows, which axe-core would examine for ten seconds."""

LOOKS = [(390, "light", "zh-CN"), (1280, "dark", "en-US")]


@pytest.fixture(scope="module")
def origin(server_with):
    """Return the origin of a server with faults and cases, one of which a client has failed."""
    found = server_with("--faults", "--cases")
    with RawPeer(int(found.rpartition(":")[2])) as peer:
        peer.handshake("/case/1?agent=probe")
    return found


@pytest.mark.parametrize(("width", "scheme", "locale"), LOOKS)
def test_are_readable_on_a_phone_and_on_a_desktop(open_browser_page, origin, width, scheme, locale):
    page, _ = open_browser_page(viewport={"width": width, "height": 844}, color_scheme=scheme, locale=locale)
    barriers = []
    for path in PAGES:
        page.goto(origin + path)
        expect(page.locator("#preferences")).to_be_visible()
        assert page.evaluate("document.documentElement.lang") == locale.removesuffix("-US")
        assert overflow(page) == 0
        barriers += [(path, *one) for one in (() if path in LONG else find_barriers(page))]
    assert barriers == []


def test_speak_the_language_of_the_browser_until_another_is_chosen(open_browser_page, origin):
    page, _ = open_browser_page(locale="zh-CN")
    page.goto(f"{origin}/case/report?agent=probe")
    expect(page.get_by_role("heading", level=1)).to_have_text("一致性报告: probe")
    expect(page.get_by_text("1 未通过")).to_be_visible()
    expect(page.get_by_text("RFC 6455 第 5.2 节").first).to_be_visible()
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Conformance report: probe")
    page.goto(f"{origin}/faults")
    expect(page.get_by_role("heading", level=1)).to_have_text("Faults")
    page.get_by_role("button", name="中文").click()
    expect(page.locator("#fault-delay")).to_contain_text("延迟回显每条消息。")
    page.goto(origin)
    expect(page.get_by_role("heading", name="消息", exact=True)).to_be_visible()


def test_have_the_theme_that_was_chosen_on_another_page(open_browser_page, origin):
    page, _ = open_browser_page(color_scheme="light")
    page.goto(f"{origin}/faults")
    page.locator("#theme").click()
    page.locator("#theme").click()
    page.goto(f"{origin}/case")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator("#theme")).to_have_attribute("title", "Theme: dark")


def test_are_complete_without_scripts(open_browser_page, origin):
    page, _ = open_browser_page(java_script_enabled=False, locale="zh-CN")
    page.goto(f"{origin}/faults")
    expect(page.locator("#fault-delay")).to_contain_text("Echo every message late.")
    expect(page.locator("#preferences")).to_be_hidden()


def test_links_lead_from_page_to_page(open_browser_page, origin):
    page, _ = open_browser_page()
    page.goto(f"{origin}/case")
    page.get_by_role("link", name="probe").click()
    expect(page.get_by_text("1 failed")).to_be_visible()
    page.get_by_role("link", name="wsserver").click()
    expect(page.get_by_role("heading", name="Messages")).to_be_visible()
    page.goto(f"{origin}/case")
    page.get_by_role("link", name="Run them in this browser").click()
    page.get_by_role("link", name="List of all cases").click()
    page.get_by_role("link", name="1", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Conformance case: framing.text-0")


def test_runs_cases_with_the_websocket_of_the_browser_and_translates_what_it_shows(open_browser_page, origin):
    """Only three of them, because all take a minute."""
    page, _ = open_browser_page()
    page.route("**/case/count?format=json", lambda route: route.fulfill(json={"count": 3}))
    page.goto(f"{origin}/conformance.html")
    page.get_by_label("Name in the report").fill("Chromium")
    page.get_by_role("button", name="Run all cases").click()
    expect(page.get_by_role("status")).to_have_text("All cases have been run.")
    expect(page.locator("#summary")).to_contain_text("3 passed")
    expect(page.locator("#rows tr")).not_to_have_count(0)
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("status")).to_have_text("所有用例已运行完毕。")
    expect(page.locator("#summary")).to_contain_text("3 通过")
    expect(page.locator("#rows tr").first).to_contain_text("未运行")
    page.get_by_role("link", name="包含所有原因和帧的报告").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("一致性报告: Chromium")

"""The panel of a channel: subscribe, publish, and see what comes."""

import subprocess

import pytest
from person import CONTRASTS, ServerPage, overflow
from playwright.sync_api import expect
from ports import free_port
from processes import wait_until_ready

KEY = "secret"


@pytest.fixture
def panel(own_server, open_server_page):
    """Open the panel of a server's page, with options of the server."""

    def open_one(*flags, **options):
        port = free_port()
        own_server(port, *flags)
        wait_until_ready(port)
        server_page: ServerPage = open_server_page(f"http://127.0.0.1:{port}", **options)
        server_page.channel.open()
        return server_page.channel, server_page

    return open_one


class SubscribeTests:
    """What is published is listed."""

    def test_from_redis(self, panel, redis):
        """`redis-cli publish foo hello` is listed, text and bytes, in order; after Unsubscribe nothing more is."""
        channel, _ = panel("--redis", f"redis://127.0.0.1:{redis.port}")
        channel.subscribe_to("foo")
        for text in ("hello", "grüße, 世界", "third"):
            subprocess.run(
                ["redis-cli", "-p", str(redis.port), "publish", "foo", text], check=True, stdout=subprocess.DEVNULL
            )
        expect(channel.messages).to_have_count(3)
        for line, text in zip(channel.messages.all(), ("hello", "grüße, 世界", "third"), strict=True):
            expect(line).to_contain_text(text)
        channel.unsubscribe.click()
        expect(channel.lines.last).to_contain_text("Unsubscribed from foo")
        done = subprocess.run(
            ["redis-cli", "-p", str(redis.port), "publish", "foo", "x"], check=True, capture_output=True
        )
        assert done.stdout == b"0\n"
        expect(channel.subscribe).to_be_enabled()

    def test_beside_the_connection(self, panel):
        """The channel and the connection of the page do not disturb each other."""
        channel, server_page = panel("--api-key", KEY)
        channel.subscribe_to("foo")
        server_page.connect_to("/echo")
        server_page.say("echoed")
        expect(server_page.received).to_have_count(1)
        server_page.disconnect.click()
        server_page.expect_state("CLOSED")
        channel.key.fill(KEY)
        channel.data.fill("published")
        channel.publish.click()
        expect(channel.messages).to_have_count(1)
        expect(server_page.received).to_have_count(1)

    def test_refused(self, panel):
        """A channel that is not open is refused with the server's own sentence."""
        channel, server_page = panel("--channel-allow", "news")
        server_page.complaints.allow("WebSocket connection to .* failed|Failed to load resource: .* 403")
        channel.name.fill("secret")
        channel.subscribe.click()
        expect(channel.lines).to_have_count(1)
        expect(channel.lines).to_contain_text("Not subscribed to secret")
        expect(channel.lines).to_contain_text("channel 'secret' is not allowed")
        channel.subscribe_to("news")

    def test_odd_names(self, panel):
        """Whatever a channel is called, it is that one."""
        channel, _ = panel("--api-key", KEY)
        channel.key.fill(KEY)
        for name in ("a&channel=b", "#x", "世界 %41", "<img src=x>"):
            channel.subscribe_to(name)
            before = channel.messages.count()
            channel.data.fill(name)
            channel.publish.click()
            expect(channel.messages).to_have_count(before + 1)
            channel.unsubscribe.click()
            expect(channel.subscribe).to_be_visible()

    def test_no_name(self, panel):
        """Without a name nothing is asked for."""
        channel, _ = panel()
        channel.subscribe.click()
        channel.publish.click()
        expect(channel.name).to_be_focused()
        expect(channel.lines).to_have_count(0)

    def test_server_stops(self, own_server, open_server_page):
        """When the server goes, its reason is listed, and one may subscribe again."""
        port = free_port()
        process = own_server(port)
        server_page = open_server_page(f"http://127.0.0.1:{port}")
        server_page.channel.open()
        server_page.channel.subscribe_to("foo")
        process.terminate()
        expect(server_page.channel.lines.last).to_contain_text("the server is stopping")
        expect(server_page.channel.subscribe).to_be_enabled()


class PublishTests:
    """What is typed reaches who listens, if the server lets it."""

    def test_published(self, panel):
        """It is listed like everything else, and how many got it is told."""
        channel, _ = panel("--api-key", KEY)
        channel.subscribe_to("foo")
        channel.key.fill(KEY)
        channel.data.fill("<b>hello</b>, 世界")
        channel.data.press("Enter")
        expect(channel.messages).to_have_count(1)
        expect(channel.messages).to_contain_text("<b>hello</b>, 世界")
        expect(channel.lines.filter(has_text="Published to foo")).to_contain_text(
            "Delivered to 1 subscriber of this server"
        )
        expect(channel.data).to_have_value("")
        expect(channel.data).to_be_focused()

    def test_as_a_client(self, panel):
        """Without a key one publishes as a client, where clients may."""
        channel, _ = panel("--channel-publish", "foo")
        channel.subscribe_to("foo")
        channel.data.fill("<b>hello</b>, 世界")
        channel.publish.click()
        expect(channel.messages).to_have_count(1)
        expect(channel.messages).to_contain_text("<b>hello</b>, 世界")
        expect(channel.lines.filter(has_text="Published to foo")).to_contain_text("As a client")
        expect(channel.data).to_have_value("")

    @pytest.mark.parametrize(
        ("flags", "key", "status", "told"),
        [
            ((), "x", 403, "the API is disabled; see --api-key"),
            (
                ("--channel-publish", "bar"),
                "",
                0,
                "permission denied: clients do not publish to this channel",
            ),
            (("--token-secret", "0123456789abcdef" * 2), "", 0, ""),
            (("--api-key", KEY), "wrong", 401, "expected the API key"),
            (("--api-key", KEY, "--redis", "redis://127.0.0.1:1"), KEY, 503, ""),
            (("--api-key", KEY), "schlüssel\u4e16", 0, ""),
        ],
    )
    def test_refused(self, own_server, open_server_page, flags, key, status, told):
        """A refusal is listed with the server's reason, and what was typed is not lost."""
        port = free_port()
        own_server(port, *flags)
        server_page = open_server_page(f"http://127.0.0.1:{port}")
        channel = server_page.channel
        channel.open()
        server_page.complaints.allow(f"Failed to load resource: .* {status}")
        channel.name.fill("foo")
        channel.key.fill(key)
        channel.data.fill("typed")
        channel.publish.click()
        expect(channel.lines).to_contain_text("Not published to foo")
        expect(channel.lines).to_contain_text(told)
        expect(channel.data).to_have_value("typed")

    def test_key_is_not_stored(self, panel):
        """The key is in no address and in no storage of the browser, and gone when the page is loaded again."""
        channel, server_page = panel("--api-key", KEY)
        page = server_page.page
        urls = []
        page.on("request", lambda request: urls.append(request.url))
        channel.name.fill("foo")
        channel.key.fill(KEY)
        channel.publish.click()
        expect(channel.lines).to_contain_text("Published to foo")
        assert len(urls) == 1
        assert KEY not in urls[0] + page.url
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        page.reload()
        channel.open()
        expect(channel.key).to_have_value("")


class AccessTests:
    """For everybody."""

    def test_keyboard(self, panel):
        """Subscribe, publish and unsubscribe with the keyboard alone; the focus is never lost."""
        channel, server_page = panel("--api-key", KEY)
        keyboard = server_page.page.keyboard
        channel.name.focus()
        keyboard.type("foo")
        keyboard.press("Enter")
        expect(channel.lines.last).to_contain_text("Subscribed to foo")
        expect(channel.name).to_be_focused()
        keyboard.press("Tab")
        expect(channel.unsubscribe).to_be_focused()
        keyboard.press("Tab")
        keyboard.type("hello")
        keyboard.press("Tab")
        keyboard.type(KEY)
        keyboard.press("Tab")
        expect(channel.publish).to_be_focused()
        keyboard.press("Enter")
        expect(channel.messages).to_have_count(1)
        expect(channel.publish).to_be_focused()
        keyboard.press("Tab")
        expect(channel.panel.get_by_role("log")).to_be_focused()
        channel.unsubscribe.focus()
        keyboard.press("Enter")
        expect(channel.subscribe).to_be_focused()

    def test_announced(self, panel):
        """What arrives is read out, and the list itself is not."""
        channel, server_page = panel("--api-key", KEY)
        announced = server_page.page.locator("[aria-live=polite]")
        channel.subscribe_to("foo")
        expect(announced).to_contain_text("Subscribed to foo")
        server_page.page.request.post(
            f"{server_page.origin}/api/publish",
            headers={"X-API-Key": KEY},
            data={"channel": "foo", "data": "for your ears"},
        )
        expect(announced).to_have_text("received text: for your ears")
        expect(channel.panel.get_by_role("log")).to_have_attribute("aria-live", "off")

    def test_bounded(self, panel):
        """The list keeps the last 200 lines and says what it dropped."""
        channel, server_page = panel("--api-key", KEY)
        channel.subscribe_to("foo")
        server_page.page.evaluate(
            """async (key) => {
                const options = { method: 'POST', headers: { 'X-API-Key': key } };
                for (let number = 0; number < 250; number += 1) {
                    const body = JSON.stringify({ channel: 'foo', data: `n${number}` });
                    await fetch('api/publish', { ...options, body });
                }
            }""",
            KEY,
        )
        expect(channel.lines.last).to_contain_text("n249")
        expect(channel.lines).to_have_count(200)
        expect(channel.panel).to_contain_text("51 older lines dropped; the log keeps the last 200.")

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_contrast(self, panel, scheme):
        """All text has the contrast of 4.5 to 1 that WCAG AA asks for."""
        channel, server_page = panel("--api-key", KEY, color_scheme=scheme)
        channel.subscribe_to("foo")
        channel.key.fill(KEY)
        channel.publish.click()
        expect(channel.messages).to_have_count(1)
        found = server_page.page.evaluate(CONTRASTS)
        assert len(found) > 40
        assert [(text, round(ratio, 2)) for text, ratio in found if ratio < 4.5] == []

    def test_fits_a_phone(self, panel):
        """At 360 pixels nothing sticks out sideways, whatever is listed."""
        channel, server_page = panel("--api-key", KEY, viewport={"width": 360, "height": 740}, is_mobile=True)
        channel.subscribe_to("foo" * 30)
        channel.key.fill(KEY)
        channel.data.fill("https://example.com/" + "unbroken" * 60)
        channel.publish.click()
        expect(channel.messages).to_have_count(1)
        assert overflow(server_page.page) == 0
        assert channel.panel.get_by_role("log").evaluate("view => view.scrollWidth - view.clientWidth") == 0

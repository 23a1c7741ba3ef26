"""The channel panel of the page: subscribe, publish, and the messages of the channel in the list of all messages."""

import subprocess

import pytest
from person import CONTRASTS, ServerPage, overflow
from playwright.sync_api import expect
from ports import free_port

KEY = "secret"


@pytest.fixture
def panel(server_with, visit, open_server_page):
    """Return a function that opens the channel panel of the page of a server with these flags."""

    def open_one(*flags, **options):
        origin = server_with(*flags)
        server_page: ServerPage = open_server_page(origin, **options) if options else visit(origin)
        server_page.channel.open()
        return server_page.channel, server_page

    return open_one


class SubscribeTests:
    """The panel lists what is published to the channel."""

    def test_lists_what_redis_cli_publishes_until_unsubscribed(self, panel, redis):
        """The messages are listed in order, including text beyond ASCII."""
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

    def test_works_beside_the_connection_of_the_page(self, panel):
        """The messages of the channel are marked with its name in the common list."""
        channel, server_page = panel("--api-key", KEY)
        channel.subscribe_to("foo")
        server_page.connect_to("/echo")
        server_page.say("echoed")
        expect(server_page.received).to_have_count(1)
        server_page.disconnect.click()
        server_page.expect_state("Closed")
        channel.key.fill(KEY)
        channel.data.fill("published")
        channel.publish.click()
        expect(channel.messages).to_have_count(2)
        expect(channel.messages.nth(0)).not_to_contain_text("# foo")
        expect(channel.messages.nth(1)).to_contain_text("# foopublished")
        expect(server_page.read(channel.messages.nth(1))).to_contain_text("Channelfoo")

    def test_lists_the_servers_reason_for_a_refused_channel(self, panel):
        """After the refusal, the user can subscribe to another channel."""
        channel, server_page = panel("--channel-allow", "news")
        server_page.complaints.allow("WebSocket connection to .* failed|Failed to load resource: .* 403")
        channel.name.fill("secret")
        channel.subscribe.click()
        expect(channel.lines).to_have_count(1)
        expect(channel.lines).to_contain_text("Not subscribed to secret")
        expect(server_page.problem).to_contain_text("channel 'secret' is not allowed")
        channel.subscribe_to("news")

    def test_begins_with_the_last_messages_if_the_user_chooses_so(self, panel):
        channel, _ = panel("--api-key", KEY)
        channel.name.fill("news")
        channel.key.fill(KEY)
        for number in range(3):
            channel.data.fill(f"message {number}")
            channel.publish.click()
            expect(channel.lines).to_have_count(number + 1)
        for choice, count in (("new messages", 0), ("the last message", 1), ("the last 10 messages", 4)):
            channel.rewind.select_option(choice)
            channel.subscribe.click()
            expect(channel.unsubscribe).to_be_visible()
            expect(channel.messages).to_have_count(count)
            expect(channel.rewind).to_be_disabled()
            channel.unsubscribe.click()
            expect(channel.lines.last).to_contain_text("Unsubscribed from news")
        assert [text.split("message ")[1][0] for text in channel.messages.all_text_contents()] == list("2012")

    def test_lists_the_servers_reason_for_a_refused_rewind(self, panel):
        channel, server_page = panel("--history-size", "0")
        server_page.complaints.allow("WebSocket connection to .* failed|Failed to load resource: .* 400")
        channel.name.fill("news")
        channel.rewind.select_option("1")
        channel.subscribe.click()
        expect(server_page.problem).to_contain_text("history is not enabled for channel 'news'; see --history-size")

    def test_subscribes_and_publishes_to_names_with_special_characters(self, panel):
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

    def test_focuses_the_name_field_and_lists_nothing_without_a_channel_name(self, panel):
        channel, _ = panel()
        channel.subscribe.click()
        channel.publish.click()
        expect(channel.name).to_be_focused()
        expect(channel.lines).to_have_count(0)

    def test_lists_the_reason_when_the_server_stops(self, own_server, open_server_page):
        """The button Subscribe is enabled again."""
        port = free_port()
        process = own_server(port)
        server_page = open_server_page(f"http://127.0.0.1:{port}")
        server_page.channel.open()
        server_page.channel.subscribe_to("foo")
        process.terminate()
        expect(server_page.problem).to_contain_text("the server is stopping")
        expect(server_page.channel.subscribe).to_be_enabled()


class PublishTests:
    """The text that a user publishes reaches the subscribers, if the server allows it."""

    def test_lists_the_published_text_and_the_number_of_receivers(self, panel):
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

    def test_publishes_as_a_client_without_a_key(self, panel):
        """The option --channel-publish allows it."""
        channel, _ = panel("--channel-publish", "foo")
        channel.subscribe_to("foo")
        channel.data.fill("<b>hello</b>, 世界")
        channel.publish.click()
        expect(channel.messages).to_have_count(1)
        expect(channel.messages).to_contain_text("<b>hello</b>, 世界")
        expect(channel.lines.filter(has_text="Published to foo")).to_contain_text("As a client")
        expect(channel.data).to_have_value("")

    @pytest.mark.parametrize(
        ("flags", "key", "status", "message"),
        [
            ((), "x", 403, "the API is disabled; see --api-key"),
            (
                ("--channel-publish", "bar"),
                "",
                0,
                "permission denied: clients may not publish to channel 'foo'; see --channel-publish",
            ),
            (("--token-secret", "0123456789abcdef" * 2), "", 0, ""),
            (("--api-key", KEY), "wrong", 401, "the API key is wrong: expected the server's --api-key"),
            (("--api-key", KEY, "--redis", "redis://127.0.0.1:1"), KEY, 503, ""),
            (("--api-key", KEY), "schlüssel\u4e16", 0, ""),
        ],
    )
    def test_lists_the_reason_of_a_refusal_and_keeps_the_text(self, panel, flags, key, status, message):
        channel, server_page = panel(*flags)
        server_page.complaints.allow(f"Failed to load resource: .* {status}")
        channel.name.fill("foo")
        channel.key.fill(key)
        channel.data.fill("typed")
        channel.publish.click()
        expect(channel.lines).to_contain_text("Not published to foo")
        expect(server_page.problem).to_contain_text(message)
        expect(channel.data).to_have_value("typed")

    def test_the_key_is_in_no_url_cookie_or_storage(self, panel):
        """A reload empties the field that contains the key."""
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
        assert KEY not in page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
        page.reload()
        channel.open()
        expect(channel.key).to_have_value("")


class AccessTests:
    """Accessibility of the panel."""

    def test_subscribes_publishes_and_unsubscribes_with_the_keyboard_alone(self, panel):
        """The focus is never lost."""
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
        channel.unsubscribe.focus()
        keyboard.press("Enter")
        expect(channel.subscribe).to_be_focused()

    def test_announces_the_subscription_and_received_messages(self, panel):
        """The list itself is not a live region."""
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

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_all_text_has_a_contrast_of_at_least_4_5_to_1(self, panel, scheme):
        """This is the limit of WCAG AA."""
        channel, server_page = panel("--api-key", KEY, color_scheme=scheme)
        channel.subscribe_to("foo")
        channel.key.fill(KEY)
        channel.publish.click()
        expect(channel.messages).to_have_count(1)
        found = server_page.page.evaluate(CONTRASTS)
        assert len(found) > 40
        assert [(text, round(ratio, 2)) for text, ratio in found if ratio < 4.5] == []

    def test_fits_a_screen_of_360_pixels(self, panel):
        """Long channel names and messages do not widen the page."""
        channel, server_page = panel("--api-key", KEY, viewport={"width": 360, "height": 740}, is_mobile=True)
        channel.subscribe_to("foo" * 30)
        server_page.page.get_by_role("button", name="Tools").click()
        assert overflow(server_page.page) == 0
        assert channel.panel.evaluate("view => view.scrollWidth - view.clientWidth") == 0
        channel.key.fill(KEY)
        channel.data.fill("https://example.com/" + "unbroken" * 60)
        channel.publish.click()
        expect(channel.messages).to_have_count(1)
        assert overflow(server_page.page) == 0
        assert server_page.list.evaluate("view => view.scrollWidth - view.clientWidth") == 0

"""The page never runs anything that a peer sends."""

import gzip

from person import ServerPage
from playwright.sync_api import expect

PAYLOADS = (
    "<script>hacked=1</script>",
    "</script><script>hacked=1</script>",
    "<ScRiPt>hacked=1</sCrIpT>",
    "<script src=//localhost/hacked.js></script>",
    "<script type=module>hacked=1</script>",
    "<img src=x onerror=hacked=1>",
    '<img src="x" onerror="hacked=1">',
    "<img src=x:x onerror=alert(1)//",
    "<svg onload=hacked=1>",
    "<svg><script>hacked=1</script></svg>",
    "<svg><animate onbegin=hacked=1 attributeName=x dur=1s>",
    "<body onload=hacked=1>",
    "<iframe src=javascript:parent.hacked=1></iframe>",
    '<iframe srcdoc="<script>parent.hacked=1</script>"></iframe>',
    "<object data=javascript:hacked=1>",
    "<embed src=javascript:hacked=1>",
    "<a href=javascript:hacked=1>click</a>",
    "<form action=javascript:hacked=1><button autofocus>go</button></form>",
    "<input autofocus onfocus=hacked=1>",
    "<details open ontoggle=hacked=1>",
    "<video><source onerror=hacked=1></video>",
    "<marquee onstart=hacked=1>",
    "<style>@import '//localhost/hacked.css'</style>",
    "<link rel=stylesheet href=//localhost/hacked.css>",
    "<meta http-equiv=refresh content='0;url=javascript:hacked=1'>",
    "<base href=//localhost/>",
    "<math><mtext><table><mglyph><style><img src=x onerror=hacked=1>",
    "</li></ol></div><script>hacked=1</script>",
    "&lt;script&gt;hacked=1&lt;/script&gt;",
    "\"';hacked=1;//${hacked=1}{{hacked=1}}",
)


class InjectionTests:
    """Text is never parsed as markup."""

    def test_shows_thirty_pieces_of_hostile_markup_as_text(self, server_page):
        assert len(set(PAYLOADS)) == 30
        server_page.connect_to("/echo")
        for payload in PAYLOADS:
            server_page.say(payload)
            expect(server_page.received.last).to_contain_text(payload)
            expect(server_page.read(server_page.received.last).locator("pre")).to_have_text(payload)
        assert server_page.list.locator(".payload *").count() == 0
        self.expect_unharmed(server_page.page)

    def test_shows_markup_in_server_json_as_text(self, open_browser_page, server_origin):
        """The markup is in the names and help of commands, and in the meanings of close codes."""
        page, complaints = open_browser_page()
        markup = "<img src=x onerror=hacked=1>"
        lists = {
            "paths": [{"path": "/" + markup, "speaks": "WebSocket", "help": markup}],
            "commands": [{"name": "bye", "help": markup}, {"name": markup, "help": markup}],
            "closeCodes": {"1000": markup},
        }
        page.route("**/server.json", lambda route: route.fulfill(json=lists))
        server_page = ServerPage(page, server_origin, complaints)
        server_page.open()
        expect(server_page.commands).to_have_text(["bye", markup])
        server_page.connect_to("/")
        server_page.command("bye").click()
        expect(server_page.events.last).to_contain_text(f"1000 means {markup}")
        self.expect_unharmed(page)

    def test_shows_markup_in_a_url_or_subprotocol_as_text(self, server_page):
        server_page.url.fill("ws://<img src=x onerror=hacked=1>/")
        server_page.subprotocols.fill("<img/src=x/onerror=hacked=1>")
        server_page.connect.click()
        expect(server_page.problem).to_contain_text("<img src=x onerror=hacked=1>")
        self.expect_unharmed(server_page.page)

    def test_shows_markup_in_json_names_and_in_a_close_reason_as_text(self, server_page):
        markup = "<img src=x onerror=hacked=1>"
        server_page.connect_to("/echo")
        server_page.say(f'{{"{markup}": "{markup}"}}')
        expect(server_page.read(server_page.received)).to_contain_text(f'{markup}: "{markup}"')
        server_page.page.get_by_role("button", name="Close with…").click()
        server_page.page.get_by_label("Reason").fill(markup)
        server_page.page.get_by_role("button", name="Close", exact=True).click()
        expect(server_page.events.last).to_contain_text("Disconnected")
        expect(server_page.read(server_page.events.last)).to_contain_text(markup)
        self.expect_unharmed(server_page.page)

    @staticmethod
    def expect_unharmed(page) -> None:
        """Check that no script ran and the page is still the same page."""
        assert page.evaluate("typeof hacked") == "undefined"
        expect(page).to_have_title("wsserver")
        assert page.locator("script, img, iframe, form, link:not([rel=modulepreload])").count() == 1 + 1 + 0 + 8 + 3


class PolicyTests:
    """The page's Content-Security-Policy."""

    def test_blocks_an_inline_script(self, server_page):
        server_page.complaints.allow(
            "CSP violation: script-src-elem inline|violates the following Content Security Policy"
        )
        server_page.page.evaluate(
            """() => {
                const script = document.createElement('script');
                script.textContent = 'hacked = 1';
                document.body.append(script);
            }"""
        )
        assert server_page.page.evaluate("typeof hacked") == "undefined"

    def test_names_each_module_in_advance_so_that_a_slow_network_waits_once(self, server_page):
        """Without this list, a browser finds each module only when it has loaded the one that imports it."""
        named = server_page.page.locator("link[rel=modulepreload]").evaluate_all("all => all.map((one) => one.href)")
        loaded = server_page.page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
        scripts = {url for url in loaded if url.endswith(".js")} - {f"{server_page.origin}/main.js"}
        assert sorted(named) == sorted(scripts)

    def test_scripts_and_styles_take_less_than_60_kilobytes_compressed(self, server_page):
        loaded = server_page.page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
        files = [url for url in loaded if url.endswith((".js", ".css"))]
        sizes = [len(gzip.compress(server_page.page.request.get(url).body())) for url in files]
        assert len(sizes) > 40
        assert sum(sizes) < 60_000

    def test_the_browser_receives_them_compressed(self, open_server_page):
        """With the heads of the responses, which Chromium counts too."""
        server_page = open_server_page()
        entries = server_page.page.evaluate("performance.getEntriesByType('resource').map((one) => one.toJSON())")
        files = [one for one in entries if one["name"].endswith((".js", ".css"))]
        assert all(0 < one["encodedBodySize"] < one["decodedBodySize"] for one in files)
        assert sum(one["encodedBodySize"] for one in files) < 60_000
        assert sum(one["decodedBodySize"] for one in files) > 120_000
        assert sum(one["transferSize"] for one in files) < 100_000

    def test_loads_every_file_from_the_server(self, server_page):
        loaded = server_page.page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert len(loaded) > 5
        assert [url for url in loaded if not url.startswith(server_page.origin + "/")] == []

"""`/whoami` with real clients: directly over TLS, and through nginx."""

import asyncio
import json
import ssl

import aiohttp
import pytest
import requests
import websockets
from proxies import PROXIES


async def ask_with_websockets(url, tls):
    async with websockets.connect(url, ssl=tls, proxy=None, subprotocols=["chat", "other"]) as connection:
        return json.loads(await asyncio.wait_for(connection.recv(), 20))


async def ask_with_aiohttp(url, tls):
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, ssl=tls or True, protocols=["chat", "other"], compress=15) as connection,
    ):
        return json.loads(await connection.receive_str(timeout=20))


@pytest.fixture(params=[ask_with_websockets, ask_with_aiohttp], ids=["websockets", "aiohttp"])
def ask(request):
    """Return a function that connects to a URL and returns what the server sees, for each client in turn."""
    return lambda url, tls=None: asyncio.run(request.param(url, tls))


class DirectTests:
    """Without a proxy."""

    def test_shows_what_the_client_has_offered(self, start_server, ask):
        server = start_server(subprotocol=("chat",), compression="on")
        about = ask(f"{server.url}/whoami?a=1")
        assert about["subprotocols_offered"] == ["chat", "other"]
        assert about["subprotocol"] == "chat"
        assert about["extensions_offered"][0]["extension"] == "permessage-deflate"
        assert about["extensions"][0]["server_max_window_bits"] in range(9, 16)
        assert about["round_trip_ms"] > 0
        assert about["address"] == about["peer"]
        assert about["peer"].startswith("127.0.0.1:")
        assert (about["path"], about["query"], about["tls"]) == ("/whoami", {"a": ["1"]}, None)
        names = [name for name, _ in about["headers"]]
        assert names[0] == "host"
        assert {"upgrade", "connection", "sec-websocket-key"} <= set(names)

    def test_shows_the_tls_of_the_connection(self, start_server, tls_listen, tls_client, ask):
        server = start_server(listen=tls_listen)
        tls_client.set_alpn_protocols(["http/1.1"])
        tls = ask(f"wss://localhost:{server.port}/whoami", tls_client)["tls"]
        assert tls == {
            "version": "TLSv1.3",
            "cipher": tls["cipher"],
            "alpn": "http/1.1",
            "server_name": "localhost",
        }
        assert tls["cipher"].startswith("TLS_")

    def test_shows_an_http_request(self, start_server, tls_listen, certificate):
        server = start_server(listen=tls_listen)
        answer = requests.get(
            f"https://localhost:{server.port}/whoami?token=hush",
            headers={"Authorization": "Bearer hush", "X-Test": "1"},
            verify=str(certificate[1]),
            timeout=20,
        )
        about = answer.json()
        assert "hush" not in answer.text
        assert about["tls"]["server_name"] == "localhost"
        assert ["x-test", "1"] in about["headers"]
        assert about["http_version"] == "1.1"


class ProxyTests:
    """Behind nginx with TLS, with the configuration in `packaging`."""

    def test_shows_the_addresses_before_and_after_the_proxy(self, start_server, issued, authority, tmp_path, ask):
        server = start_server(trusted_proxy=("127.0.0.1",))
        with PROXIES["nginx"].running(tmp_path / "nginx", issued["ECDSA"], server.port) as proxy:
            trusting = ssl.create_default_context(cafile=str(authority.root))
            about = ask(f"wss://localhost:{proxy.https}/whoami", trusting)
            page = requests.get(f"https://localhost:{proxy.https}/whoami", verify=str(authority.root), timeout=20)
        for seen in (about, page.json()):
            names = dict(seen["headers"])
            # nginx names the client, and is the peer itself.
            assert seen["address"] == names["x-forwarded-for"] == "127.0.0.1"
            assert seen["peer"].startswith("127.0.0.1:")
            assert names["x-forwarded-proto"] == "https"
            assert seen["tls"] is None
        assert about["round_trip_ms"] > 0

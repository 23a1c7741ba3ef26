"""Chunked request bodies of real HTTP clients, published through the API."""

import asyncio
import json
import subprocess

import aiohttp
import pytest
import requests

BODY = json.dumps({"channel": "news", "data": "x" * 40_000}).encode()
TOO_LONG = json.dumps({"channel": "news", "data": "x" * 70_000}).encode()

NODE = """
const http = require("http");
const options = { method: "POST", headers: { "X-API-Key": "key", Expect: process.argv[2] } };
if (!process.argv[2]) delete options.headers.Expect;
const request = http.request(process.argv[1], options, (response) => {
    process.stdout.write(String(response.statusCode));
    response.resume();
});
request.on("error", (error) => process.stdout.write(error.code));
process.stdin.pipe(request);
"""


def send_with_curl(url, body, *more):
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "-H", "X-API-Key: key", "-T", "-"]
    return subprocess.run(
        [*command, *more, url], input=body, capture_output=True, check=False, timeout=30
    ).stdout.decode()


def send_with_node(url, body, *more):
    command = ["node", "-e", NODE, url, *more]
    return subprocess.run(command, input=body, capture_output=True, check=False, timeout=30).stdout.decode()


def pieces(body):
    yield from (body[start : start + 1000] for start in range(0, len(body), 1000))


def send_with_requests(url, body):
    return str(requests.post(url, data=pieces(body), headers={"X-API-Key": "key"}, timeout=30).status_code)


def send_with_aiohttp(url, body, *, expect=False):
    async def stream():
        for piece in pieces(body):
            yield piece

    async def send():
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=stream(), headers={"X-API-Key": "key"}, expect100=expect) as response,
        ):
            return str(response.status)

    return asyncio.run(send())


CLIENTS = {
    "curl": send_with_curl,
    # For a body of unknown length curl sends Expect: 100-continue by default.
    "curl without Expect": lambda url, body: send_with_curl(url, body, "-H", "Expect:"),
    "Node": send_with_node,
    "Node with Expect": lambda url, body: send_with_node(url, body, "100-continue"),
    "requests": send_with_requests,
    "aiohttp": send_with_aiohttp,
    "aiohttp with Expect": lambda url, body: send_with_aiohttp(url, body, expect=True),
}


class ChunkedTests:
    """`Transfer-Encoding: chunked` on `POST /api/publish`."""

    @pytest.mark.parametrize("send", CLIENTS.values(), ids=CLIENTS)
    def test_a_streamed_body_is_published_unchanged_with_200(self, start_server, send):
        server = start_server(api_key="key")
        with server.open("/ws?channel=news") as peer:
            assert send(f"http://127.0.0.1:{server.port}/api/publish", BODY) == "200"
            assert peer.read_message() == "x" * 40_000

    @pytest.mark.parametrize("send", [send_with_curl, send_with_node])
    def test_the_client_reads_413_for_a_body_over_the_limit(self, start_server, send):
        """The client still has more to send when the status arrives."""
        server = start_server(api_key="key")
        assert send(f"http://127.0.0.1:{server.port}/api/publish", TOO_LONG) == "413"

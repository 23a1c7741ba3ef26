"""Tests for wsserver/web/asyncapi.py: the AsyncAPI description of the WebSocket endpoints."""

import json
import subprocess

import pytest
from node import install_node_packages
from paths import DOCS, TESTS

from wsserver.endpoints.routes import HELP
from wsserver.testing import MemoryServer
from wsserver.web.asyncapi import MESSAGES, QUERIES, asyncapi_file, describe_websockets

FILE = DOCS / "reference" / "asyncapi.json"


def test_the_file_is_what_make_docs_generates():
    assert FILE.read_text("utf-8") == asyncapi_file()


def test_the_official_parser_accepts_the_file():
    """It recommends the latest version of AsyncAPI, which few tools support, and has nothing else to say."""
    node = install_node_packages()
    command = ["node", str(TESTS / "support" / "parse_asyncapi.mjs"), str(node), str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(done.stdout)
    assert [one for one in found["diagnostics"] if one["code"] != "asyncapi-latest-version"] == []
    assert found["channels"] == len(HELP)


def test_every_path_with_messages_or_a_query_of_its_own_exists():
    assert (MESSAGES.keys() | QUERIES.keys()) - HELP.keys() == set()


def test_describes_the_endpoints_of_an_application_and_their_prefixes():
    described = describe_websockets({"/shout": "shouts", "/rooms/": "a room", "/ro.oms": "dots"}, [])
    assert {one["address"] for one in described["channels"].values()} == {"/shout", "/rooms/{rest}", "/ro.oms"}
    assert described["channels"]["roomsPaths"]["parameters"] == {"rest": {"description": "The rest of the path."}}
    assert len(described["operations"]) == 6


def test_paths_that_differ_only_in_punctuation_have_different_names():
    assert len(describe_websockets({"/a-b": "", "/a/b": "", "/a_b": ""}, [])["channels"]) == 3


@pytest.mark.parametrize("path", ["/", "/ws", "/echo", "/connection/websocket"])
def test_a_server_serves_the_description_of_its_paths(path):
    server = MemoryServer()
    client = server.connect()
    client.send(b"GET /asyncapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head, _, body = bytes(client.transport.written).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert path in {one["address"] for one in json.loads(body)["channels"].values()}

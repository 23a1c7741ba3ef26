"""Tests for wsserver/cli/doctor/refusals.py: what each refusal of a handshake means."""

import ssl
from email.message import Message

import pytest

from wsserver.cli.doctor.exchange import NotHTTP, Response
from wsserver.cli.doctor.refusals import CLOUDFLARE, explain_error, explain_refusal, name_proxies
from wsserver.cli.doctor.request import Wanted
from wsserver.cli.urls import parse_websocket_url


def response(status, body="", kind="text/plain", **headers):
    message = Message()
    for name, value in {"Content-Type": kind, **headers}.items():
        message[name.replace("_", "-")] = value
    return Response(status, "Phrase", message, body.encode())


def explain(answer, url="ws://h.example/ws", *, without_origin=False, **more):
    target = parse_websocket_url(url)
    wanted = Wanted(target, more.pop("origin", target.origin), **more)
    step = explain_refusal(answer, wanted, lambda: without_origin)
    assert step.status == "fail"
    return step


@pytest.mark.parametrize(
    ("status", "step", "text"),
    [
        (401, "token", "--token TOKEN"),
        (404, "path", "correct the path"),
        (410, "path", "correct the path"),
        (429, "limits", "raise the limit"),
        (403, "access", "the rules of the proxy"),
        (502, "proxy", "proxy_pass"),
        (504, "proxy", "proxy_pass"),
        (503, "upgrade", "/ready"),
        (400, "upgrade", "proxy_set_header Upgrade"),
        (200, "upgrade", "proxy_set_header Upgrade"),
        (418, "upgrade", "see the log"),
        *((status, "proxy", "certificate") for status in CLOUDFLARE),
    ],
)
def test_each_status_has_a_step_and_a_repair(status, step, text):
    found = explain(response(status))
    assert (found.step, text in found.fix) == (step, True)


def test_a_refused_token_is_not_the_same_as_a_missing_one():
    assert "checktoken" in explain(response(401, "it has expired"), token="x").fix


def test_a_forbidden_origin_is_told_from_other_reasons_by_a_second_handshake():
    assert explain(response(403), without_origin=True, origin="https://x.example").fix.endswith(
        "--origin https://x.example"
    )
    assert explain(response(403), without_origin=False, origin="https://x.example").step == "access"


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("https://h.example/ws", "wss://h.example/ws"),
        ("/new/ws", "ws://h.example/new/ws"),
        ("http://other.example", "ws://other.example/"),
    ],
)
def test_a_redirect_names_the_url_to_use(location, url):
    assert f"connect to {url}:" in explain(response(302, Location=location)).fix


@pytest.mark.parametrize(
    "body",
    ["The plain HTTP request was sent to HTTPS port", "Client sent an HTTP request to an HTTPS server."],
)
def test_plain_http_on_a_tls_port_is_recognized_by_the_texts_of_nginx_and_go(body):
    assert explain(response(400, body)).fix == "connect to wss://h.example/ws"


@pytest.mark.parametrize(
    ("error", "speaks_tls", "step"),
    [
        (NotHTTP(b"\x15\x03\x01"), True, "tls"),
        (NotHTTP(b"SSH-2.0"), True, "upgrade"),
        (ConnectionResetError(104, "Connection reset by peer"), True, "tls"),
        (ConnectionResetError(104, "Connection reset by peer"), False, "upgrade"),
        (TimeoutError(), False, "upgrade"),
    ],
)
def test_a_port_without_an_http_answer_may_speak_tls(error, speaks_tls, step):
    assert explain_error(error, parse_websocket_url("ws://h.example/"), lambda: speaks_tls).step == step


def test_a_server_that_demands_a_client_certificate_is_named():
    error = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required")
    step = explain_error(error, parse_websocket_url("wss://h.example/"), lambda: False)
    assert "certificate of the client" in step.finding


def test_proxies_are_named_by_their_headers():
    answer = response(101, Server="cloudflare", CF_Ray="8a", Via="1.1 varnish")
    assert list(name_proxies(answer)) == ["Cloudflare (CF-Ray)", "Via: 1.1 varnish"]
    assert list(name_proxies(response(101, Server="nginx/1.22.1"))) == ["nginx/1.22.1 (Server)"]

"""
A backend for the hooks of wsserver. `python backend.py` starts it on http://127.0.0.1:3000.

It identifies users by the cookie `user=NAME`, allows channels whose names begin with `chat:`, and refuses publications
that contain a swear word. Clients can call the method `add`, and send messages, which it publishes to `chat:index`.
"""

import json
import sys
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def connect(question, user):
    if user is None:
        return {"error": {"code": 401, "message": "log in first"}}
    return {"result": {"user": user}}


def subscribe(question, user):
    if not question["channel"].startswith("chat:"):
        return {"error": {"code": 403, "message": "chat channels only"}}
    return {"result": {}}


def publish(question, user):
    if "damn" in json.dumps(question["data"]):
        return {"error": {"code": 400, "message": "no swearing"}}
    return {"result": {}}


def rpc(question, user):
    if question["method"] != "add":
        return {"error": {"code": 404, "message": "no such method"}}
    return {"result": {"data": sum(question["data"])}}


def message(question, user):
    said = {"user": question["user"], "text": question["data"]}
    return {"result": {"publish": [{"channel": "chat:index", "data": said}]}}


def disconnect(question, user):
    print(question.get("user"), "has gone:", question["disconnect"]["reason"], flush=True)
    return {"result": {}}


def channel(question, user):
    for event in question["events"]:
        print(event["channel"], "is", event["type"], flush=True)
    return {"result": {}}


HOOKS = {
    "/connect": connect,
    "/subscribe": subscribe,
    "/publish": publish,
    "/rpc": rpc,
    "/message": message,
    "/disconnect": disconnect,
    "/channel": channel,
}


class Hooks(BaseHTTPRequestHandler):
    # HTTP/1.1 keeps connections open, so that wsserver can send several requests on one connection.
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        cookie = SimpleCookie(self.headers["Cookie"]).get("user")
        hook = HOOKS.get(self.path)
        if hook is None:
            self.send_error(404)
            return
        body = json.dumps(hook(question, cookie and cookie.value)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


port = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
server = ThreadingHTTPServer(("127.0.0.1", port), Hooks)
print(f"answering on http://127.0.0.1:{server.server_port}", flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    server.server_close()

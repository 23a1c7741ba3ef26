"""The Twisted plugin that adds the `wsserver` command to `twistd` and `twist`; it imports the server only on use."""

from twisted.application.service import ServiceMaker

wsserver = ServiceMaker(
    "wsserver",
    "wsserver.tap",
    "A WebSocket server with channels, an HTTP API and a browser page.",
    "wsserver",
)

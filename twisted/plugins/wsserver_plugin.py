"""What `twistd` and `twist` find: the `wsserver` command. Nothing is imported here until it is chosen."""

from twisted.application.service import ServiceMaker

wsserver = ServiceMaker(
    "wsserver",
    "wsserver.tap",
    "A WebSocket server: echo, commands, a browser page.",
    "wsserver",
)

"""What `wsserver doctor` asks a server for: the URL, and who asks."""

from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, unquote

from wsserver.cli.urls import Target

__all__ = ["Wanted"]

CENTRIFUGE = "/connection/websocket"
PATHS = (CENTRIFUGE, "/connection/uni_websocket", "/ws", "/echo", "/ticker", "/")
"""The paths of our server; what precedes them in a URL is the prefix of a proxy."""

HARMLESS = frozenset({"channel", "format", "cf_protocol"})
"""The parameters of a URL that are sent to a server whose certificate is not accepted; others may be secrets."""


@dataclass
class Wanted:
    """The request of the user."""

    target: Target
    origin: str
    token: str = ""
    subprotocol: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    echo: bool = False
    """Whether the user says that the server sends back every message."""
    is_ours: bool = False
    """Whether the server is a wsserver."""
    withheld: str = ""
    """What is not sent, because the certificate of the server is not accepted; empty for nothing."""
    named: str = ""
    """The channel of `--channel`; empty for none."""

    def without_secrets(self) -> "Wanted":
        """
        Return the request for a server whose certificate is not accepted: anybody may be at the other end.

        A browser sends nothing to it. The other steps can still be examined without what may be a secret.
        """
        path, _, query = self.target.path.partition("?")
        every = query.split("&") if query else []
        kept = [part for part in every if unquote(part.partition("=")[0]) in HARMLESS]
        is_secret = "bearer." in self.subprotocol
        left_out = {
            "the token": self.token,
            "the headers of --header": self.headers,
            "--subprotocol": is_secret,
            "parameters of the URL": kept != every,
        }
        return replace(
            self,
            target=replace(self.target, path=path + ("?" + "&".join(kept) if kept else "")),
            token="",
            subprotocol="" if is_secret else self.subprotocol,
            headers={},
            withheld=", ".join(name for name, is_left_out in left_out.items() if is_left_out),
        )

    @property
    def path(self) -> str:
        """The path without the query."""
        return self.target.path.partition("?")[0]

    @property
    def base(self) -> str:
        """The prefix that a proxy puts before the paths of our server; usually empty."""
        known = next((path for path in PATHS if self.path.endswith(path)), "")
        return self.path.removesuffix(known) if known else self.path.rpartition("/")[0]

    @property
    def is_centrifuge(self) -> bool:
        """Whether the path speaks the Centrifuge protocol as JSON."""
        return self.path.endswith(CENTRIFUGE) and "protobuf" not in self.target.path

    @property
    def channel(self) -> str:
        """The channel that the user names, with `--channel` or in the URL; empty for none."""
        return self.named or parse_qs(self.target.path.partition("?")[2]).get("channel", [""])[0]

    @property
    def subscribed(self) -> str:
        """The channel to subscribe to in the steps that need one."""
        return self.channel or "doctor"

    def headers_for(self, path: str, *, origin: bool = True) -> dict[str, str]:
        """
        Return the headers of a handshake.

        A page cannot set the header Authorization of a handshake, so pages send our server the token as a subprotocol.
        With the Centrifuge protocol, the client sends it in its first command.

        Args:
            path: the path of the handshake.
            origin: whether to send an Origin header.
        """
        protocols = [self.subprotocol] if self.subprotocol else []
        headers = {"Origin": self.origin} if origin else {}
        if self.token and not path.partition("?")[0].endswith(CENTRIFUGE):
            if self.is_ours:
                protocols += ["wsserver.v1", f"bearer.{self.token}"]
            else:
                headers["Authorization"] = f"Bearer {self.token}"
        if protocols:
            headers["Sec-WebSocket-Protocol"] = ", ".join(protocols)
        return headers | self.headers

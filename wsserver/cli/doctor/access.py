"""Step `token` of `wsserver doctor` for raw connections: whether our server has checked the token, and accepts it."""

from dataclasses import replace
from urllib.parse import quote

from wsserver.cli.doctor.exchange import Response
from wsserver.cli.doctor.refusals import repair_token
from wsserver.cli.doctor.report import Step, failed, passed, warned
from wsserver.cli.doctor.request import Wanted
from wsserver.cli.doctor.stream import Dialer
from wsserver.cli.doctor.websocket import open_websocket

__all__ = ["check_token"]

INVALID = "wsserver-doctor.is.invalid"
"""A token that no server accepts."""

UNCHECKED = (
    "name a channel for which clients need the token: --channel NAME, or ?channel=NAME in the URL; and check that the "
    "server has a key for tokens, such as --token-secret"
)


def check_token(dialer: Dialer, wanted: Wanted) -> Step:
    """
    Check the token of a raw connection.

    Paths without a channel ignore tokens, so the handshake at the path of the URL does not show whether the token is
    valid. An invalid token shows whether the server checks tokens at all.
    """
    path = f"{wanted.base}/ws?channel={quote(wanted.subscribed, safe='')}"
    answer = _answer(dialer, path, wanted)
    reason = f"{answer.status} {answer.text or answer.phrase}".strip()
    if answer.status == 401:
        return failed("token", f"the token is refused: {answer.text or answer.phrase}", repair_token(wanted))
    if answer.status not in (101, 403):
        return warned("token", f"the server has not checked the token: {path} answers {reason}", UNCHECKED)
    if _answer(dialer, path, replace(wanted, token=INVALID)).status == 401:
        return passed("token", "the server has checked the token, and accepts it")
    return warned(
        "token", f"the server has not checked the token: {path} answers {reason} to an invalid one, too", UNCHECKED
    )


def _answer(dialer: Dialer, path: str, wanted: Wanted) -> Response:
    opened = open_websocket(dialer, path, wanted.headers_for(path))
    if isinstance(opened, Response):
        return opened
    opened.close()
    return opened.response

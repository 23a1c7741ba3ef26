"""The order of the steps of `wsserver doctor`."""

from wsserver.cli.doctor.access import check_token
from wsserver.cli.doctor.conversation import (
    ask_whoami,
    check_address,
    check_compression,
    check_ping,
    connect_centrifuge,
    describe_upgrade,
)
from wsserver.cli.doctor.exchange import Response
from wsserver.cli.doctor.idle import check_idle
from wsserver.cli.doctor.network import find_address
from wsserver.cli.doctor.refusals import explain_error, explain_refusal
from wsserver.cli.doctor.report import Report, Status, passed, skipped
from wsserver.cli.doctor.request import Wanted
from wsserver.cli.doctor.stream import Dialer
from wsserver.cli.doctor.surroundings import check_event_stream, check_health, is_wsserver
from wsserver.cli.doctor.tls import check_tls, speaks_tls
from wsserver.cli.doctor.websocket import WebSocket, open_websocket

__all__ = ["Examination"]

UNEXPECTED = "see the log of the server and of the proxy"


class Examination:
    """
    One run.

    Args:
        wanted: what to connect to.
        report: collects the steps.
        ca: a PEM file with further authorities; None for none.
        wait: seconds for the step `idle`; 0 to leave it out.
    """

    def __init__(self, wanted: Wanted, report: Report, ca: str | None, wait: float) -> None:
        self._wanted = wanted
        self._report = report
        self._ca = ca
        self._wait = wait

    def run(self) -> None:
        """Examine one step after the other, until one fails on which the rest depends."""
        address = find_address(self._wanted.target, self._report)
        if address is None:
            return
        dialer = Dialer(self._wanted.target, address)
        if self._wanted.target.tls and not check_tls(dialer, self._ca, self._report):
            return
        if dialer.is_impostor:
            self._withhold_secrets()
        websocket = self._shake_hands(dialer)
        if websocket is not None:
            with websocket:
                self._converse(websocket)
            self._look_around(dialer)
            self._be_idle(dialer)

    def _withhold_secrets(self) -> None:
        self._wanted = self._wanted.without_secrets()
        if self._wanted.withheld:
            reason = f"not sent to a server whose certificate is not accepted: {self._wanted.withheld}"
            self._report.add(skipped("secrets", f"{reason}; the next steps go without"))

    def _shake_hands(self, dialer: Dialer) -> WebSocket | None:
        wanted, report = self._wanted, self._report
        wanted.is_ours = is_wsserver(dialer, wanted)
        report.server = "wsserver" if wanted.is_ours else None
        try:
            opened = self._open(dialer)
        except OSError as error:
            report.add(explain_error(error, wanted.target, lambda: speaks_tls(dialer)))
            return None
        if isinstance(opened, Response):
            report.add(explain_refusal(opened, wanted, lambda: self._accepts_without_origin(dialer)))
            return None
        report.add(describe_upgrade(opened))
        report.add(passed("origin", f"pages of {wanted.origin} may connect"))
        return opened

    def _open(self, dialer: Dialer, *, origin: bool = True) -> WebSocket | Response:
        path = self._wanted.target.path
        return open_websocket(dialer, path, self._wanted.headers_for(path, origin=origin))

    def _accepts_without_origin(self, dialer: Dialer) -> bool:
        try:
            opened = self._open(dialer, origin=False)
        except OSError:
            return False
        if isinstance(opened, Response):
            return False
        opened.close()
        return True

    def _converse(self, websocket: WebSocket) -> None:
        report, wanted = self._report, self._wanted
        if wanted.is_centrifuge:
            with report.catching("token", UNEXPECTED):
                if report.add(connect_centrifuge(websocket, wanted)).status is not Status.OK:
                    return
            if report.has_failed_at("token"):
                return
        with report.catching("ping", UNEXPECTED):
            report.add(check_ping(websocket))

    def _look_around(self, dialer: Dialer) -> None:
        report, wanted = self._report, self._wanted
        if wanted.is_ours and wanted.token and not wanted.is_centrifuge:
            with report.catching("token", UNEXPECTED):
                report.add(check_token(dialer, wanted))
        seen = ask_whoami(dialer, wanted) if wanted.is_ours else None
        with report.catching("compression", UNEXPECTED):
            path = f"{wanted.base}/echo" if wanted.is_ours else wanted.target.path
            opened = open_websocket(dialer, path, wanted.headers_for(path))
            if isinstance(opened, WebSocket):
                with opened as websocket:
                    report.add(check_compression(websocket, wanted, seen))
        if wanted.is_ours:
            report.add(check_address(seen))
            check_health(dialer, wanted, report)
            if report.has_failed_at("token"):
                report.add(skipped("sse", "the token is not accepted"))
            else:
                report.add(check_event_stream(dialer, wanted))

    def _be_idle(self, dialer: Dialer) -> None:
        if not self._wait or self._report.has_failed_at("token"):
            return
        with self._report.catching("idle", UNEXPECTED):
            opened = self._open(dialer)
            if isinstance(opened, WebSocket):
                with opened as websocket:
                    if self._wanted.is_centrifuge:
                        connect_centrifuge(websocket, self._wanted)
                    self._report.add(check_idle(websocket, self._wait))

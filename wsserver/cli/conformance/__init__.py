"""
`wsserver conformance -- COMMAND`: run the conformance cases with a WebSocket client, and print the verdicts.

The command starts a server on a free port of this machine. The client is a program that sends back every message. If
its arguments contain `{url}`, it is started once for each case; with `{server}` or `{page}`, it is started once, and
runs all cases by itself. With `--tls`, the server has a certificate that is made for the run.
"""

import argparse
import sys
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

from wsserver.process.exit import complain, die_by

if TYPE_CHECKING:
    from wsserver.cli.conformance.session import Session

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `wsserver conformance` to a parser."""
    parser.add_argument(
        "command",
        nargs="*",
        metavar="COMMAND",
        help="the client and its arguments, after --; {url} stands for the URL of a case, {server} for that of the "
        "server, {page} for a page that runs all cases in a browser, and {ca} for the file to trust with --tls. A "
        "client for all cases is killed if it finishes none for a minute",
    )
    parser.add_argument(
        "--cases",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only the cases of a topic, such as text, or whose names match a pattern, such as 'closing.code-*'; may "
        "be repeated",
    )
    parser.add_argument("--list", action="store_true", help="print the cases, and run none")
    parser.add_argument("--junit", metavar="FILE", help="write the verdicts to a file as JUnit XML")
    parser.add_argument(
        "--tls",
        action="store_true",
        help="test with wss://. The certificate is made for the run; the environment of the client names that of its "
        "authority as SSL_CERT_FILE and NODE_EXTRA_CA_CERTS, and {ca} is its path",
    )
    parser.add_argument(
        "--timeout",
        type=_number(0.1, 300, float),
        default=5.0,
        metavar="SECONDS",
        help="how long the client may take for an answer [5]",
    )
    parser.add_argument(
        "--jobs",
        type=_number(1, 32, int),
        default=4,
        metavar="N",
        help="with {url}, the number of clients at a time [4]",
    )


def _number(least: float, most: float, kind: type[int] | type[float]) -> Any:
    def parse(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = -1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"expected a number from {least:g} to {most:g}, not {text!r}")
        return number

    return parse


def run(chosen: argparse.Namespace) -> None:
    """
    Run the cases. The exit status is 0 if none has failed, 1 if some have, and 2 if no case could be run.

    Raises:
        SystemExit: always, except for `--list`.
    """
    # Importing the server takes half a second.
    from wsserver.cli.conformance.session import Session  # noqa: PLC0415
    from wsserver.endpoints.cases.catalog import TOPICS, select_cases  # noqa: PLC0415

    cases = select_cases(chosen.cases)
    if not cases:
        chosen.parser.error(
            f"no case matches {' or '.join(chosen.cases)}: expected a topic ({', '.join(TOPICS)}) or a pattern"
        )
    if chosen.list:
        for number, case in enumerate(cases, 1):
            print(f"{number:3} {case.id:34} {case.reference:24} {case.title}: {case.demand}")
        return
    if not any(name in word for word in chosen.command for name in ("{url}", "{server}", "{page}")):
        chosen.parser.error("expected a command with {url}, {server} or {page}, such as -- node client.js {url}")
    if not chosen.tls and any("{ca}" in word for word in chosen.command):
        chosen.parser.error("{ca} needs --tls")
    session = Session(chosen.command, cases, timeout=chosen.timeout, jobs=chosen.jobs, tls=chosen.tls)
    try:
        # A file that cannot be written is an error before the run, which takes minutes.
        file = open(chosen.junit, "wb") if chosen.junit is not None else BytesIO()  # noqa: SIM115 (closed below)
    except OSError as error:
        complain(f"cannot write {chosen.junit}: {error.strerror}")
        raise SystemExit(2) from None
    with file:
        status = _conclude(session, file)
    if session.ended_by is not None:
        sys.stdout.flush()
        die_by(session.ended_by)
    raise SystemExit(status)


def _conclude(session: "Session", file: BinaryIO) -> int:
    """Run a session, write its results as JUnit XML to a file, and print them; return the exit status."""
    from wsserver.cli.conformance.summary import describe_notes, summarize  # noqa: PLC0415
    from wsserver.endpoints.cases.junit import write_junit  # noqa: PLC0415
    from wsserver.endpoints.cases.results import Verdict  # noqa: PLC0415

    problem = session.run()
    report = session.report
    file.write(write_junit(report, session.cases))
    if session.ended_by is not None:
        complain(f"the run was interrupted by {session.ended_by.name}")
        if not report.results:
            return 2
    if problem is not None or not report.results:
        complain(problem or f"no case was run: the client did not connect{describe_notes(session.notes)}")
        return 2
    print(summarize(report, session.cases, session.notes), flush=True)
    is_complete = len(report.results) == len(session.cases)
    return 0 if is_complete and not report.count()[Verdict.FAIL] else 1

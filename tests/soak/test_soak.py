"""A short run. `make soak` runs for longer."""

import socket
import threading
from dataclasses import replace

import pytest
from connections import markdown as connections_table
from connections import measure
from curve import curve
from cycles import STYLES, Cycles, FailedCycleError
from holdings import Holdings, Sample, compare, slope
from page import write_part
from soak import markdown, run

BASE = Holdings(60_000, 14, 4, {"Frontend": 0, "FrontendFactory": 1})


def test_a_server_returns_to_its_base_after_short_connections_and_a_mixed_load(tmp_path):
    soak = run(1000, 3, tmp_path)
    assert not soak.complaints
    assert soak.figures["cycles"]["styles"] == dict.fromkeys(STYLES, 250)
    mixed = soak.figures["mixed load"]["counts"]
    for kind in ("delivered", "acked", "echoes", "pages", "calls", "short connections"):
        assert mixed[kind], kind
    assert "passed: yes" in markdown(soak)
    assert curve("title", soak.samples, soak.phases).count("<rect") == (len(soak.phases) + 1) // 2


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (replace(BASE, kib=71_000), "memory: 60,000 -> 71,000 KiB"),
        (replace(BASE, files=15), "descriptors: 14 -> 15"),
        (replace(BASE, timers=5), "timers: 4 -> 5"),
        (replace(BASE, objects={"Frontend": 1}), "objects of Frontend: 0 -> 1"),
    ],
)
def test_reports_what_has_not_returned_to_the_base(now, words):
    assert words in compare(BASE, now)[0]


def test_accepts_a_growth_within_the_bounds():
    assert not compare(BASE, replace(BASE, kib=70_000, objects={"ClientInfo": 900, "FrontendFactory": 1}))


def test_rewrites_only_the_named_part_of_the_page(tmp_path):
    page = tmp_path / "soak.md"
    page.write_text("one\n<!-- figures -->\nold\n<!-- end of figures -->\ntwo\n")
    write_part("figures", "new\n", page)
    write_part("figures", "newer\n", page)
    assert page.read_text() == "one\n<!-- figures -->\n\nnewer\n\n<!-- end of figures -->\ntwo\n"


def test_the_name_of_a_short_phase_is_left_out_of_the_curve():
    samples = [Sample(at, 60_000, 14) for at in (0.0, 1000.0)]
    picture = curve("title", samples, [("warm-up", 0, 10), ("mixed load", 10, 1000)])
    assert "warm-up" not in picture
    assert "mixed load" in picture


def test_the_slope_is_in_kib_per_hour():
    assert slope([Sample(at, 1000 + at // 36, 14) for at in range(0, 3600, 36)]) == pytest.approx(100, rel=0.01)


def test_a_cycle_fails_if_the_server_refuses_the_connection(refusing_port):
    with pytest.raises(FailedCycleError, match=r"refused: b'HTTP/1\.1 503"):
        Cycles(refusing_port, 4).run()


@pytest.fixture
def refusing_port():
    """The port of a server that refuses every connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_measures_idle_connections_and_a_storm(monkeypatch):
    """The goals are for an idle machine, so only the run itself is judged here."""
    monkeypatch.setattr("connections.LIVE", 2.0)
    results = measure(200, 0.5)
    figures = [name for name, _, _ in results.rows]
    assert [name.partition(":")[0].partition(" of ")[0] for name in figures] == [
        *["memory"] * 4,
        "CPU time",
        "pings answered",
        *["storm"] * 4,
    ]
    assert "| storm: connections that the kernel dropped | 0.0 |" in connections_table(results)

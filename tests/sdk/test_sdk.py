"""Tests for the run of the SDKs' test suites: what it reads, and the table that it writes."""

import pytest
from outcomes import Case, Outcome, complaints, markdown
from own import Browser, Processes
from suites import CentrifugeGo, CentrifugePython

PASSED = Outcome("its own tests", "sdk 1.0", "wsserver 1.0", [Case("a"), Case("b")], 1.6)
FAILED = Outcome("its own tests", "sdk 1.0", "wsserver 1.0", [Case("a"), Case("b", "timeout")], 1.6)

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite>
<testcase classname="tests.test_it.CommandTests" name="test_a[javascript-sse]" time="0.5" />
<testcase classname="tests.test_it.CommandTests" name="test_a[memory-java]" time="0.25">
<failure message="AssertionError: no&#10;more">...</failure></testcase>
</testsuite></testsuites>
"""


def test_the_table_counts_the_tests_that_passed_and_failed():
    assert markdown([PASSED, FAILED]).splitlines()[2:] == [
        "| sdk 1.0 | its own tests | wsserver 1.0 | 2 | 2 | 0 | 2 s |",
        "| sdk 1.0 | its own tests | wsserver 1.0 | 2 | 1 | 1 | 2 s |",
    ]


def test_each_failed_test_and_a_run_without_tests_are_complaints():
    assert complaints(PASSED) == []
    assert complaints(FAILED) == ["sdk 1.0, its own tests, wsserver 1.0: b: timeout"]
    assert complaints(Outcome("x", "sdk", "server", [], 0)) == ["sdk, x, server: no test ran"]


def test_the_tests_in_a_report_of_pytest_are_read_by_sdk_transport_and_protocol(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    assert Processes(tmp_path).read(report) == {
        "javascript-sse": [(Case("CommandTests.test_a[javascript-sse]"), 0.5)],
        "java": [(Case("CommandTests.test_a[memory-java]", "AssertionError: no"), 0.25)],
    }


@pytest.mark.parametrize(
    ("name", "kind", "what"),
    [
        ("test_a[javascript]", "javascript", "WebSocket, JSON"),
        ("test_a[javascript-memory]", "javascript", "WebSocket, JSON"),
        ("test_a[redis-javascript-http_stream-protobuf]", "javascript-http_stream-protobuf", "http_stream, Protobuf"),
        ("test_a[python-protobuf-3000]", "python-protobuf", "WebSocket, Protobuf"),
        ("test_a[answer0-disconnected-403-java]", "java", "WebSocket, Protobuf"),
    ],
)
def test_the_sdk_transport_and_protocol_are_found_in_the_name_of_a_test(tmp_path, name, kind, what):
    suite = Processes(tmp_path)
    assert (suite.kind(name), suite.describe(kind)) == (kind, what)


def test_the_versions_of_the_sdks_are_read_from_where_they_are_pinned(tmp_path):
    suite = Browser(tmp_path)
    assert suite.sdk("javascript-sse").startswith("centrifuge 5.")
    assert suite.sdk("java").startswith("centrifuge-java 0.")
    assert suite.sdk("python").startswith("centrifuge-python 0.")


def test_only_the_go_tests_that_connect_to_the_server_are_run(tmp_path):
    """Directly, or by a helper function."""
    (tmp_path / "client_test.go").write_text(
        'func newClient() *Client {\n\treturn New("ws://localhost:8000/x")\n}\n\n'
        'func TestA(t *testing.T) {\n\tNew("ws://localhost:8000/x")\n}\n\n'
        "func TestB(t *testing.T) {\n\tnewClient()\n}\n\n"
        'func TestC(t *testing.T) {\n\tNew("ws://localhost:9000/x")\n}\n'
    )
    suite = CentrifugeGo()
    suite._source = tmp_path
    assert suite.names() == ["TestA", "TestB"]


def test_each_subtest_of_a_python_test_is_a_case_with_its_protocol():
    lines = (
        '{"case": {"use_protobuf": false, "delta": null}, "error": null}\n'
        '{"case": {"use_protobuf": true, "delta": "fossil"}, "error": "late"}\n'
    )
    assert [*CentrifugePython()._cases("A.test_b", lines)] == [
        Case("A.test_b (JSON)"),
        Case("A.test_b (Protobuf, delta fossil)", "late"),
    ]

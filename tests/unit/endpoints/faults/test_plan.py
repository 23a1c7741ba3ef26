"""Tests for wsserver/endpoints/faults/plan.py: the notation of combined faults, and which of them are refused."""

import pytest

from wsserver.endpoints.faults.fault import COMMON
from wsserver.endpoints.faults.plan import flatten, make_plan
from wsserver.endpoints.faults.table import TABLE
from wsserver.errors import InvalidFault


def show(made):
    """Return the faults of a plan with their parameters."""
    parts = [*([made.response] if made.response else []), *made.heads, *made.timed]
    return [(one.fault.name, dict(one.own), one.after, one.wait) for one in parts]


CLOSE = ("close", {"code": 1012, "reason": ""}, 3, 0.1)
PING = ("ping", {"rate": 5, "count": 10, "payload": ""}, 0, 0.1)

PLANS = {
    "a parameter may name the fault": (("echo", {"close": "1012", "after": "3"}), [CLOSE]),
    "a dotted parameter adds its fault": (("echo", {"close.code": "1012", "close.after": "3"}), [CLOSE]),
    "a fault may be added to that of the path": (
        ("ping", {"rate": "5", "close": "1012", "close.after": "3"}),
        [PING, CLOSE],
    ),
    "two faults may be added to the echo": (
        ("echo", {"ping": "5", "close": "1012", "close.after": "3"}),
        [PING, CLOSE],
    ),
    "a bare name is enough if one fault has it": (
        ("echo", {"ping": "", "rate": "5", "close.after": "3", "code": "1012"}),
        [PING, CLOSE],
    ),
    "pong is the common parameter, and pong.rate the fault": (
        ("echo", {"pong": "none", "pong.rate": "7"}),
        [("pong", {"rate": 7, "count": 10, "payload": ""}, 0, 0.1)],
    ),
    "a name that the fault of the path has is its parameter": (
        ("close-long", {"length": "200"}),
        [("close-long", {"length": 200}, 0, 0.1)],
    ),
    "another fault of that name is added with a dot": (
        ("long-control", {"length": "200", "length.form": "64"}),
        [("length", {"form": "64"}, 0, 0.1), ("long-control", {"kind": "ping", "length": 200}, 0, 0.1)],
    ),
    "underscores may replace hyphens": (
        ("echo", {"not_utf8.after": "1", "slow_handshake": "10"}),
        [("slow-handshake", {"piece": 10, "every": 0.01}, 0, 0.0), ("not-utf8", {"where": "byte"}, 1, 0.1)],
    ),
    "the end comes last": (
        ("drop", {"push": "binary"}),
        [
            ("push", {"type": "binary", "size": 64, "rate": 10, "count": 10, "then": "echo"}, 0, 0.1),
            ("drop", {}, 0, 0.1),
        ],
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_understands_the_notation(name):
    (path, given), parts = PLANS[name]
    assert show(make_plan(TABLE, path, given)) == parts


def test_defaults_of_all_faults_apply():
    made = make_plan(TABLE, "slow", {"no-pong": "", "bomb": "1KiB"})
    assert (made.values["chunk"], made.values["pong"], made.values["compression"]) == (1, "none", "on")


def test_names_the_faults_without_the_echo():
    assert make_plan(TABLE, "echo", {"drop": "", "push": ""}).names == ("push", "drop")
    assert make_plan(TABLE, "echo", {}).names == ("echo",)


@pytest.mark.parametrize(("other", "then"), [("drop", "echo"), ("no-write", "echo"), ("ping", "close")])
def test_push_closes_unless_another_fault_ends_the_connection(other, then):
    (push,) = [one for one in make_plan(TABLE, "push", {other: ""}).timed if one.fault.name == "push"]
    assert push.own["then"] == then


REFUSED = {
    ("echo", "close=1012&drop="): ("drop", "close and drop cannot be combined: each of them ends the connection"),
    ("drop", "close.after=3"): ("close.after", "drop and close cannot be combined: each of them ends the connection"),
    ("echo", "status=503&ping="): ("status", "ping and status cannot be combined: status takes the place of the 101"),
    ("status", "slow-handshake=1"): ("slow-handshake", "status takes the place of the 101 response"),
    ("hang", "redirect="): (
        "redirect",
        "hang and redirect cannot be combined: redirect takes the place",
    ),
    ("no-write", "close=1000"): ("close", "the server sends nothing after no-write"),
    ("unfinished", "cut="): ("cut", "the server sends nothing after unfinished"),
    ("unfinished", "no-write="): ("no-write", "the server sends nothing after no-write"),
    ("no-pong", "wrong-pong="): ("wrong-pong", "no-pong and wrong-pong cannot be combined: each of them sets pong"),
    ("drop", "push.then=close"): ("push.then", "push with then=close cannot be combined with drop"),
    ("echo", "ping=&close=1012&after=3"): (
        "after",
        "after is a parameter of ping and close: expected ping.after or close.after",
    ),
    ("close", "ping=&after=3"): ("after", "after is a parameter of close and ping: expected close.after or ping.after"),
    ("close", "code=1&close.code=2"): ("code", "close.code and code are the same parameter"),
    ("echo", "close=1&close.code=2"): ("close.code", "close and close.code are the same parameter"),
    ("echo", "close.cod=1"): ("close.cod", "unknown parameter 'close.cod'; did you mean close.code?"),
    ("echo", "clsoe.code=1"): ("clsoe.code", "unknown fault 'clsoe' in 'clsoe.code'; did you mean close?"),
    ("echo", "clsoe=1"): ("clsoe", "unknown parameter 'clsoe'; did you mean close?"),
    ("echo", "close.code=70000"): ("close.code", "close.code='70000': expected a whole number from 0 to 65535"),
    ("echo", "close.delay=1s"): ("close.delay", "delay is a parameter of the whole connection: expected delay"),
    ("echo", "drop=1"): ("drop", "drop='1': expected no value"),
    ("echo", "echo.x=1"): ("echo.x", "unknown parameter 'echo.x'; the fault has no parameters of its own"),
    ("echo", ".=1"): (".", "unknown fault '' in '.'"),
}


@pytest.mark.parametrize("case", REFUSED, ids="?".join)
def test_refuses_what_makes_no_sense_and_names_the_parameter(case):
    path, query = case
    with pytest.raises(InvalidFault) as caught:
        make_plan(TABLE, path, dict(each.split("=", 1) for each in query.split("&")))
    parameter, problem = REFUSED[case]
    assert problem in str(caught.value)
    assert caught.value.parameter == parameter


def combine(one, other):
    """Return the faults of a plan, or why there is none."""
    try:
        return set(make_plan(TABLE, one, {"pong.rate": "1"} if other == "pong" else {other: ""}).names)
    except InvalidFault as error:
        return str(error)


def test_every_pair_of_faults_has_a_plan_or_a_reason():
    """`delay` and `fragment` are common parameters, so they cannot be added; a fault may have a parameter `length`."""
    names = TABLE.keys() - {"delay", "fragment", "echo"}
    pairs = [(one, other) for one in TABLE for other in names - {one} - TABLE[one].accepted.keys()]
    found = {pair: combine(*pair) for pair in pairs}
    refused = [pair for pair in pairs if isinstance(found[pair], str)]
    assert [pair for pair in refused if " cannot be combined: " not in found[pair]] == []
    assert [pair for pair in pairs if pair not in refused and found[pair] != {*pair} - {"echo"}] == []
    assert len(pairs) - len(refused) > len(refused) > 100


def test_no_fault_has_a_parameter_with_the_name_of_a_common_one():
    common = {one.name for one in COMMON}
    assert [fault.name for fault in TABLE.values() if common & fault.accepted.keys()] == []


def test_a_mapping_has_the_parameters_of_a_fault():
    given = {"ping": True, "close": {"code": 1012, "after": 3}, "no_read": {}, "drop": False, "delay": "1s"}
    assert flatten(given) == {"ping": "", "close.code": "1012", "close.after": "3", "no_read": "", "delay": "1s"}

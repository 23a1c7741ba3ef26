"""The servers that the benchmark compares with: their command lines, programs and pinned versions."""

import importlib
import json
import re
import sys
import tomllib
from unittest import mock

import pytest
from paths import ROOT

BENCHMARKS = ROOT / "benchmarks"
NAMES = ("installers", "peers", "processes", "toolchain")


@pytest.fixture
def processes():
    """Import the module that starts servers. Its folder has modules with the same names as tests/support."""
    with mock.patch.dict(sys.modules), mock.patch.object(sys, "path", [str(BENCHMARKS), *sys.path]):
        for name in NAMES:
            sys.modules.pop(name, None)
        yield importlib.import_module("processes")


@pytest.fixture
def peers(processes):
    """Import the peers."""
    return sys.modules["peers"]


def test_inserts_options_before_the_port(processes, peers):
    line = processes.command(peers.BY_NAME["gorilla"], 9001, "compression", ())
    assert line == [str(processes.BENCH / "echo_gorilla"), "--compression", "9001"]


def test_gives_the_rows_options_to_wsserver_only(processes, peers):
    own = processes.command(peers.BY_NAME["wsserver"], 9001, "channels", ["--anonymous"])
    assert own[1:] == ["serve", "--port", "9001", "--anonymous"]
    other = processes.command(peers.BY_NAME["centrifugo"], 9001, "channels", ["--anonymous"])
    assert other[-2:] == ["--http_server.port", "9001"]
    assert "--anonymous" not in other


def test_every_command_line_ends_with_the_port(processes, peers):
    for peer in peers.PEERS:
        for line in filter(None, (peer.command, peer.fanout, peer.channels)):
            assert peer.kind == "here" or line[-1] == "{port}", peer.name


def test_every_program_of_ours_exists(peers):
    servers = BENCHMARKS / "servers"
    for peer in peers.PEERS:
        for line in filter(None, (peer.command, peer.fanout, peer.channels)):
            for file in re.findall(r"\{servers\}/(\S+)", " ".join(line)):
                assert (servers / file).is_file(), file
            if peer.kind == "go":
                assert (servers / "go" / line[0].removeprefix("{bench}/") / "main.go").is_file(), peer.name
            if peer.kind == "cargo":
                assert (servers / "rust/src/bin" / f"{line[0].rpartition('/')[2]}.rs").is_file(), peer.name


def test_every_version_is_pinned(peers):
    modules = (BENCHMARKS / "servers/go/go.mod").read_text()
    crates = tomllib.loads((BENCHMARKS / "servers/rust/Cargo.toml").read_text())["dependencies"]
    for peer in peers.PEERS:
        for package in peer.packages:
            if peer.kind == "go":
                assert f"{package} v" in modules
            elif peer.kind == "cargo":
                crate = crates[package]
                assert (crate if isinstance(crate, str) else crate["version"]).startswith("=")
            else:
                assert re.search(r"(==|@v?)\d", package), package


def test_centrifugo_keeps_the_history_that_wsserver_keeps_by_default():
    channel = json.loads((BENCHMARKS / "servers/centrifugo.json").read_text())["channel"]["without_namespace"]
    assert (channel["history_size"], channel["history_ttl"]) == (100, "60s")
    assert channel["force_recovery"]
    assert channel["force_positioning"]

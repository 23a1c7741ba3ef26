"""
Run five clients with our conformance cases, and with Autobahn's fuzzing server; compare the verdicts.

    python tests/compliance/conformance_peers.py [--out DIR]

The verdicts are written to tests/compliance/clients/verdicts.json, with which tests compare the clients and
docs/reference/conformance.md. It takes about five minutes; the clients run one after the other, because wstest gives
them only a second for some answers.
"""

import argparse
import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path += [str(HERE), str(HERE.parent / "support")]

from conformance import CLIENTS, RECORD, client_command, client_versions, read_verdicts  # noqa: E402
from conformance_pairs import AUTOBAHN_CASES, find_disagreements  # noqa: E402
from ports import free_port  # noqa: E402
from server_process import Process  # noqa: E402
from toolchain import Wstest, clean_environment, find_wstest  # noqa: E402

CLIENT_SECONDS = 600


def main() -> None:
    """Run the clients, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "conformance-peers", help="directory of the reports"
    )
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    wstest = find_wstest(ROOT / "build" / "wstest", print)
    own = run_own()
    theirs = run_autobahn(wstest, chosen.out.resolve())
    versions = client_versions()
    record = {
        name: {
            "version": versions[name],
            "own": {case: verdict for case, verdict in own[name].items() if verdict != "pass"},
            "autobahn": {case: verdict for case, verdict in theirs[name].items() if verdict != "pass"},
        }
        for name in CLIENTS
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    for (case, other), names in find_disagreements(record).items():
        for name, (ours, autobahns) in names.items():
            print(f"{case} ({other}) {name}: ours {ours}, Autobahn's {autobahns}")


def run_client(name: str, server: str, form: str) -> None:
    """Run all cases with a client."""
    print(f"running {name} ({form})", flush=True)
    subprocess.run(client_command(name, server, form), timeout=CLIENT_SECONDS, check=True)


def run_own() -> dict[str, Mapping[str, str]]:
    """Run our cases; return the verdicts of each client."""
    server = Process("--cases")
    try:
        for name in CLIENTS:
            run_client(name, f"ws://127.0.0.1:{server.port}", "own")
        return {name: read_verdicts(server.port, name) for name in CLIENTS}
    finally:
        server.close()


def run_autobahn(wstest: Wstest, folder: Path) -> dict[str, dict[str, str]]:
    """Run the cases of Autobahn's fuzzing server; return the verdicts of each client."""
    port = free_port()
    spec = {
        "url": f"ws://127.0.0.1:{port}",
        "outdir": "./reports",
        "cases": list(AUTOBAHN_CASES),
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(spec), "utf-8")
    command = ["fuzzingserver" if word == "fuzzingclient" else word for word in wstest.command(folder, "spec.json")]
    # No web server for the reports.
    command += ["--webport", "0"]
    with (folder / "wstest.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=clean_environment(), stdout=log, stderr=log)
    try:
        wait_for(port)
        for name in CLIENTS:
            run_client(name, f"ws://127.0.0.1:{port}", "autobahn")
    finally:
        server.terminate()
        server.wait(30)
    index = json.loads((folder / "reports" / "index.json").read_text("utf-8"))
    return {name: {case: judge(found) for case, found in index[name].items()} for name in CLIENTS}


def judge(found: Mapping[str, str]) -> str:
    """Return the verdict of Autobahn's fuzzing server in our words."""
    behavior, close = found["behavior"], found["behaviorClose"]
    if behavior == "UNIMPLEMENTED":
        return "not tested"
    if behavior == "FAILED":
        return "fail"
    return "pass" if (behavior, close) == ("OK", "OK") else "informational"


def wait_for(port: int) -> None:
    """Wait until a program listens on a port."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("wstest does not listen: see wstest.log")


if __name__ == "__main__":
    main()

"""
Filters: the server's CPU time for a publication to Centrifuge subscribers, without filters and with up to one for each.

    python benchmarks/filters.py [subscribers]

The program starts a server process for each row, publishes with the HTTP API, and reads what all subscribers receive.
"""

import http.client
import json
import sys
from contextlib import ExitStack

from subscribers import Subscribers, cpu_seconds, serving

PUBLICATIONS = 400
"""Number of publications in each row."""

CONFIG = """
api_key = "bench"
max_queued_bytes = "16MiB"
channel_allow = ["*"]
[[channel]]
pattern = "*"
allow_tags_filter = true
"""

ROWS = (
    ("no filter", None, 1),
    ("one filter, which matches", "neq", 1),
    ("one filter, which does not match", "eq", 1),
    ("100 filters, which match", "neq", 100),
    ("100 filters, which do not match", "eq", 100),
    ("one filter for each, which match", "neq", sys.maxsize),
    ("one filter for each, which do not match", "eq", sys.maxsize),
)
"""Name, comparison with a value that the tag never has, and number of different filters."""


def measure(comparison: str | None, filters: int, count: int) -> tuple[float, float]:
    """Return the number of subscribers that receive a publication, and the server's microseconds for each."""
    subscribes = []
    for number in range(count):
        fields = {"channel": "quotes"}
        if comparison is not None:
            fields["tf"] = {"key": "ticker", "cmp": comparison, "val": f"X{number % filters}"}  # type: ignore[assignment]
        subscribes.append(json.dumps(fields))
    body = json.dumps({"channel": "quotes", "data": {"price": 100}, "tags": {"ticker": "BTC"}})
    with serving(CONFIG) as (port, process), ExitStack() as stack:
        subscribers = Subscribers(port, subscribes)
        stack.callback(subscribers.stop)
        api = http.client.HTTPConnection("127.0.0.1", port)
        received, seconds = subscribers.received, cpu_seconds(process)
        for _ in range(PUBLICATIONS):
            api.request("POST", "/api/publish", body, {"X-API-Key": "bench"})
            assert api.getresponse().read().startswith(b'{"result"')
        subscribers.wait()
        received, seconds = subscribers.received - received, cpu_seconds(process) - seconds
        return received / count / PUBLICATIONS, seconds / PUBLICATIONS * 1e6


def main() -> None:
    """Print the table of docs/explanation/performance.md."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(f"{count} subscribers:\n")
    print("| filters | bytes for each subscriber | CPU time |\n|---|--:|--:|")
    for name, comparison, filters in ROWS:
        sent, taken = measure(comparison, filters, count)
        print(f"| {name} | {sent:.0f} | {taken / 1000:.2f} ms |", flush=True)


if __name__ == "__main__":
    main()

"""
Draw every panel of the Grafana dashboard with the data of a Prometheus server, into one picture.

This is not Grafana: the script runs the queries of the dashboard and draws the results. It needs matplotlib:

    python packaging/grafana/render.py --prometheus http://127.0.0.1:9090 --minutes 5 --out dashboard.png
"""

import argparse
import json
import re
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.dates import DateFormatter

COLUMNS = 4
DASHBOARD = Path(__file__).with_name("wsserver.json")
UNITS = {"s": "seconds", "Bps": "bytes per second", "bytes": "bytes", "percentunit": "cores", "none": ""}


def query(url: str, expression: str, seconds: float) -> list[dict[str, Any]]:
    """Return the series of an expression over the last seconds."""
    now = time.time()
    fields = {"query": expression, "start": now - seconds, "end": now, "step": max(seconds / 200, 1)}
    whole = f"{url}/api/v1/query_range?{urllib.parse.urlencode(fields)}"
    with urllib.request.urlopen(whole, timeout=30) as response:  # noqa: S310 (the operator names the URL)
        answer = json.load(response)
    return answer["data"]["result"]


def legend(template: str, labels: dict[str, str]) -> str:
    """Return the legend of a series, as Grafana writes it."""
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), template)


def draw(axes: Any, panel: dict[str, Any], url: str, variables: dict[str, str], seconds: float) -> int:
    """Draw a panel; return the number of its series."""
    count = 0
    for target in panel["targets"]:
        expression = target["expr"]
        for name, value in variables.items():
            expression = expression.replace(name, value)
        for series in query(url, expression, seconds):
            points = [(float(at) / 86400, float(value)) for at, value in series["values"] if value != "NaN"]
            if points:
                axes.plot(
                    *zip(*points, strict=True), label=legend(target["legendFormat"], series["metric"]), linewidth=1.2
                )
                count += 1
    axes.set_title(panel["title"], fontsize=10, loc="left", fontweight="bold")
    axes.set_ylabel(UNITS.get(panel["fieldConfig"]["defaults"]["unit"], "per second"), fontsize=7)
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if count:
        axes.set_ylim(0, axes.get_ylim()[1] * 1.1)
        axes.legend(fontsize=6, loc="upper left", framealpha=0.6)
    else:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", va="center", color="grey")
    return count


def main() -> None:
    """Draw the dashboard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="URL of Prometheus")
    parser.add_argument("--job", default="wsserver", help="the job of the scrape configuration")
    parser.add_argument("--minutes", type=float, default=5, help="how much of the past to draw")
    parser.add_argument("--out", type=Path, default=Path("dashboard.png"), help="the picture")
    chosen = parser.parse_args()
    panels = [panel for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"] if panel["type"] != "row"]
    rows = -(-len(panels) // COLUMNS)
    figure, all_axes = plt.subplots(rows, COLUMNS, figsize=(5 * COLUMNS, 2.6 * rows), constrained_layout=True)
    variables = {"$__rate_interval": "15s", "$job": chosen.job}
    for axes, panel in zip(all_axes.flat, panels, strict=False):
        count = draw(axes, panel, chosen.prometheus, variables, chosen.minutes * 60)
        print(f"{count} series: {panel['title']}")
    for axes in all_axes.flat[len(panels) :]:
        axes.axis("off")
    figure.savefig(chosen.out, dpi=80)


if __name__ == "__main__":
    main()

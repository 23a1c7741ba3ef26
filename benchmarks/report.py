"""Report the results as Markdown: medians, ratios, and whether the goals are reached."""

from statistics import median
from typing import Any

from goals import Goal, Row
from peers import BY_NAME, LIMIT, SUBJECT
from rows import ROWS

__all__ = ["document", "middle", "missed", "number", "tables"]

Result = dict[str, Any]

LOAD_BOUND = 0.95
"""If the load generator was busy for at least this share of the time, it was the bottleneck."""

SUMMARY = (
    "| work | wsserver | CPU per message | limit in C | best other server | its CPU per message | ratio | required "
    "| aimed for |\n|---|--:|--:|--:|---|--:|--:|---|---|"
)
DETAIL = (
    "| server | {figure} | range | CPU per message | RTT p50 | RTT p99 | load generator busy |\n"
    "|---|--:|--:|--:|--:|--:|--:|"
)


def figures(result: Result, row: str, server: str, figure: str) -> list[float]:
    """Return the values of a figure in all rounds of a row."""
    return [found[figure] for found in result["rows"].get(row, {}).get(server, []) if figure in found]


def middle(result: Result, row: str, server: str, figure: str) -> float | None:
    """Return the median of a figure over all rounds; None if it was not measured."""
    found = figures(result, row, server, figure)
    return median(found) if found else None


def number(value: float | None, unit: str = "") -> str:
    """Format a figure with three significant digits or more, and its unit; empty for None."""
    if value is None:
        return ""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}".replace(",", " ") + unit


def best_peer(result: Result, row: Row) -> tuple[str, float] | None:
    """Return the best peer of the row's rivals and its figure; None if none of them was measured."""
    found = [(name, middle(result, row.name, name, row.figure)) for name in row.rival_names()]
    able = [(name, value) for name, value in found if value is not None]
    return (min if row.less_is_better else max)(able, key=lambda pair: pair[1], default=None)


def reference(result: Result, row: Row, goal: Goal, figure: str) -> float | None:
    """Return the figure whose multiple the goal is; None if that figure was not measured."""
    if goal.of == "fixed":
        return 1.0
    if goal.of == "best":
        best = best_peer(result, row)
        return best and middle(result, row.name, best[0], figure)
    name = LIMIT if goal.of == "limit" else goal.of
    return middle(result, *((row.name, name) if name in BY_NAME else (name, SUBJECT)), figure)


def is_load_bound(result: Result, row: str, server: str) -> bool:
    """Return whether the load generator, and not the server, limited the rate."""
    return (middle(result, row, server, "load_busy") or 0) >= LOAD_BOUND


def wording(row: Row, goal: Goal) -> str:
    """Return the text of a goal."""
    sign = "≤" if row.less_is_better or goal.figure else "≥"
    names = {
        "fixed": f"{sign} {number(goal.factor)}{goal.unit or row.unit}".replace(".00", ""),
        "best": f"{goal.factor:g} x best other",
        "limit": f"{goal.factor:g} x limit",
    }
    return names.get(goal.of, f"{goal.factor:g} x {goal.of}") + (f" + {goal.plus:g}{row.unit}" if goal.plus else "")


def judged(result: Result, row: Row, goal: Goal) -> tuple[str, bool | None]:
    """Return the text of a goal, and whether it is reached. The second value is None if a figure is missing."""
    text, figure = wording(row, goal), goal.figure or row.figure
    ours, other = middle(result, row.name, SUBJECT, figure), reference(result, row, goal, figure)
    if ours is None or not other:
        return text, None
    limit = goal.factor * other + goal.plus
    reached = ours <= limit if row.less_is_better or goal.figure else ours >= limit
    share = "" if goal.of == "fixed" else f"{ours / other:.2f}"
    own_cpu, cpu = middle(result, row.name, SUBJECT, "cpu_us"), reference(result, row, goal, "cpu_us")
    if figure == "rate" and goal.of != "fixed" and own_cpu and cpu:
        reached = (reached or is_load_bound(result, row.name, SUBJECT)) and own_cpu <= cpu / goal.factor
        share += f"; CPU {own_cpu / cpu:.2f}"
    return f"{text}: {'**yes**' if reached else '**no**'}{share and f' ({share})'}", reached


def missed(result: Result) -> list[str]:
    """Return the names of the rows whose `must` goal is not reached."""
    return [row.name for row in ROWS if any(judged(result, row, goal)[1] is False for goal in row.must)]


def tables(result: Result) -> str:
    """Return the table of goals and one table for each row."""
    rows = [row for row in ROWS if row.name in result["rows"]]
    return "\n\n".join(
        ["\n".join([SUMMARY, *(summary_line(result, row) for row in rows)]), *(detail(result, row) for row in rows)]
    )


def is_ahead(result: Result, row: Row, name: str, figure: str) -> bool:
    """Return whether a peer is better than wsserver; a rate that the load generator limited is not compared."""
    ours, other = (middle(result, row.name, server, figure) for server in (SUBJECT, name))
    if ours is None or other is None:
        return False
    if figure == "rate":
        return other > ours and not is_load_bound(result, row.name, SUBJECT)
    return other < ours if row.less_is_better or figure == "cpu_us" else other > ours


def best_cells(result: Result, row: Row) -> list[str]:
    """Return the cells about the best peer: its name and figure, its CPU time, the ratio. Bold: it is ahead."""
    best = best_peer(result, row)
    if best is None:
        return ["", "", ""]
    name, value = best
    ours = middle(result, row.name, SUBJECT, row.figure)
    ratio = f"{ours / value:.2f}" if value and ours is not None else ""
    ahead = is_ahead(result, row, name, row.figure)
    return [
        bold(f"{BY_NAME[name].title} {number(value, row.unit)}", ahead),
        bold(cpu_of(result, row, name), is_ahead(result, row, name, "cpu_us")),
        bold(ratio, ahead),
    ]


def bold(text: str, wanted: bool) -> str:
    """Return a text, in bold if wanted and not empty."""
    return f"**{text}**" if wanted and text else text


def cpu_of(result: Result, row: Row, name: str) -> str:
    """Return a server's CPU time per message; empty if the row is not about a rate."""
    return number(middle(result, row.name, name, "cpu_us"), " µs") if row.unit == "/s" else ""


def summary_line(result: Result, row: Row) -> str:
    """Return a line of the table of goals."""
    cells = [
        row.work,
        number(middle(result, row.name, SUBJECT, row.figure), row.unit),
        cpu_of(result, row, SUBJECT),
        number(middle(result, row.name, LIMIT, row.figure), row.unit),
        *best_cells(result, row),
        "<br>".join(judged(result, row, goal)[0] for goal in row.must),
        "<br>".join(judged(result, row, goal)[0] for goal in row.aim),
    ]
    return f"| {' | '.join(cells)} |"


def detail(result: Result, row: Row) -> str:
    """Return the table of a row: all measured servers, best first, then the servers that failed."""
    servers = result["rows"][row.name]
    known = {name: middle(result, row.name, name, row.figure) for name in servers}
    order = sorted(
        (name for name in servers if known[name] is not None),
        key=lambda name: known[name],
        reverse=not row.less_is_better,
    )
    lines = [f"### {row.work}", "", DETAIL.format(figure="value" if row.unit != "/s" else "messages per second")]
    for name in order:
        found = figures(result, row.name, name, row.figure)
        per_message = [number(middle(result, row.name, name, key), " µs") for key in ("cpu_us", "p50_us", "p99_us")]
        busy = middle(result, row.name, name, "load_busy")
        cells = [
            BY_NAME[name].title,
            number(known[name], row.unit),
            f"{number(min(found))} - {number(max(found))}",
            per_message[0] if row.figure == "rate" else "",
            *per_message[1:],
            "" if busy is None else f"{100 * busy:.0f} %{' (bottleneck)' * is_load_bound(result, row.name, name)}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for name, rounds in servers.items():
        lines += sorted({f"\n{BY_NAME[name].title} failed: {found['error']}" for found in rounds if "error" in found})
    return "\n".join(lines)


def document(result: Result, plots: dict[str, str]) -> str:
    """Return the text of docs/explanation/benchmarks.md. `plots` maps the file name of each plot to its title."""
    machine = result["machine"]
    versions = "\n".join(f"| {BY_NAME[name].title} | {version} |" for name, version in result["versions"].items())
    absent = "".join(f"\n- {BY_NAME[name].title}: {reason}" for name, reason in result["missing"].items())
    pictures = "\n\n".join(f"![{title}]({file})" for file, title in plots.items())
    return DOCUMENT.format(
        tables=tables(result),
        versions=versions,
        pictures=pictures,
        absent=f"\n\nThese servers were not measured, because they could not be installed:\n{absent}" if absent else "",
        **{key: machine[key] for key in ("cpu", "cores", "kernel", "python")},
        **{key: result[key] for key in ("date", "rounds", "seconds", "warmup")},
    )


DOCUMENT = """\
# Benchmarks

This page compares wsserver with other WebSocket servers on the same machine. On other machines the absolute values
differ, but the ratios should be similar. To repeat the measurement on your machine, run one of these commands in a
checkout of the source code:

```sh
make bench                                      # everything; some hours; overwrites this page
.venv/bin/python benchmarks/bench.py --quick    # a few servers, one short round
```

{pictures}

## Machine and method

The machine: {cpu}, {cores} cores, Linux {kernel}, Python {python}. The date: {date}.

All servers in Python run with this Python.

The server uses one core, and the load generator the other. They communicate over loopback. The load generator
(`benchmarks/load.c`) is a C program that acts as all clients. It checks the type and the size of every reply. It also
checks the content of every reply up to 1 KiB, of every 16th larger one, and of compressed replies on every tenth
connection.

A minimal echo server in C shows the maximum that the load generator can measure on this machine: the column "limit in
C".

There were {rounds} rounds. In each round, every server is started and measured once: for {seconds:g} s, after
{warmup:g} s of warm-up. The values are the medians of the rounds.

The names of the rows and columns:

- "1 in flight": each client sends its next message when it has received the reply to the previous message. "16 in
  flight": each client has 16 messages without a reply at any time.
- "Ratio": wsserver's value divided by that of the best other server. For memory, CPU and slowdown, less is better, so a
  ratio below 1 is good.
- **Bold** in the columns about the best other server: it is ahead of wsserver, in the rate or in the CPU time.
- "Required" and "aimed for": goals of this project, and whether wsserver reaches them. The ratios are in parentheses:
  that of the rates, and that of the CPU times per message. A goal for a rate applies to both.
- "Range": the lowest and the highest value of all rounds.
- "CPU per message": user and system time of the server process and its children, divided by the number of messages.
- "RTT": the time that a client waits for a reply; p50 and p99 are the values that 50 % and 99 % of the replies stay
  below.
- "Load generator busy": the share of time in which the load generator was busy. From 95 %, the load generator and not
  the server limits the rate ("bottleneck"); then only the CPU time per message is compared.
- "Pss": the memory of the server's processes, with shared pages divided among them.

In the fan-out rows, one client publishes, and all others subscribe. With "1 in flight", the publisher sends its next
publication when all subscribers have received the previous publication. With "8 in flight", up to 8 publications are
on their way at a time. Here a "message" is the delivery of a publication to one subscriber, and "RTT" is the time from
the publisher to the subscriber.

For these rows, each server runs a short program whose endpoint publishes the messages that it receives; wsserver's is
`benchmarks/servers/fanout_wsserver.py`. Each program uses the fastest function that its library has for this: topics
(Bun, uWebSockets), prepared messages (gorilla/websocket, Autobahn), `broadcast()` (websockets), channels (nchan),
otherwise a loop.

wsserver runs with its default options: its log, limits, pings and check of origins are on, and each channel has a
history of 100 publications and one minute. The other servers run as their documentation shows, each in one process,
built with optimisation; `benchmarks/README.md` says what each does by default. Compression is off except in the row
about it.

In the rows about publishing with the HTTP API or the Centrifuge protocol, and about Centrifuge clients, Centrifugo has
the same history, with positioning and recovery, no presence, and its default log level, which writes no line for each
request; wsserver writes its access log in these rows, too.

The row about UTF-8 leaves out servers that do not check the UTF-8 of text messages (picows, gorilla/websocket,
coder/websocket) from "best other server".

{tables}

## Versions

| server | version |
|---|---|
{versions}{absent}
"""

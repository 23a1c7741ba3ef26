"""The memory of the server during a run as an SVG, for light and dark backgrounds."""

from collections.abc import Sequence
from html import escape

from holdings import Sample

__all__ = ["curve"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 320, 64, 16, 60, 40

CHARACTER = 8
"""Width of a character, in pixels."""

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f } .title { font-size: 16px; font-weight: 600 }
.note { fill: #57606a } .grid { stroke: #d0d7de } .phase { fill: #0969da; opacity: .07 }
.memory { fill: none; stroke: #0969da; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .note { fill: #8d96a0 } .grid { stroke: #30363d }
  .phase { fill: #4493f8; opacity: .12 } .memory { stroke: #4493f8 }
}
"""


def curve(title: str, samples: Sequence[Sample], phases: Sequence[tuple[str, float, float]]) -> str:
    """
    Return the chart.

    Args:
        title: the title.
        samples: the samples, in the order of time.
        phases: name, first and last second of each phase, in the order of time.
    """
    span = max(samples[-1].at, 1.0)
    top = -(-max(sample.kib for sample in samples) // 10240) * 10240

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at / span

    def y(kib: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * kib / top

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(title)}">'
        ),
        f"<style>{STYLE}</style>",
        f'<text class="title" x="8" y="22">{escape(title)}</text>',
    ]
    for number, (name, begin, end) in enumerate(phases):
        if number % 2 == 0:
            parts.append(
                f'<rect class="phase" x="{x(begin):.1f}" y="{TOP}" width="{x(end) - x(begin):.1f}" '
                f'height="{HEIGHT - TOP - BOTTOM}"/>'
            )
        if x(end) - x(begin) < CHARACTER * len(name):
            # It would cover the name of the next phase.
            continue
        middle = x((begin + end) / 2)
        parts.append(f'<text class="note" x="{middle:.1f}" y="{TOP - 8}" text-anchor="middle">{escape(name)}</text>')
    for part in range(5):
        kib = top * part / 4
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(kib):.1f}" y2="{y(kib):.1f}"/>')
        label = f"{kib / 1024:.0f} MiB"
        parts.append(f'<text class="note" x="{LEFT - 8}" y="{y(kib) + 4:.1f}" text-anchor="end">{label}</text>')
    for part in range(5):
        at = span * part / 4
        label = f"{at / 60:.0f} min" if span >= 240 else f"{at:.0f} s"
        anchor = "start" if part == 0 else "end" if part == 4 else "middle"
        parts.append(f'<text class="note" x="{x(at):.1f}" y="{HEIGHT - 14}" text-anchor="{anchor}">{label}</text>')
    points = " ".join(f"{x(sample.at):.1f},{y(sample.kib):.1f}" for sample in samples)
    parts.append(f'<polyline class="memory" points="{points}"/>')
    return "\n".join([*parts, "</svg>", ""])

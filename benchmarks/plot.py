"""Bar charts as SVG, for light and dark backgrounds, without a plotting library."""

from dataclasses import dataclass
from html import escape

__all__ = ["Bar", "chart"]

WIDTH, LABEL, BAR, GAP, TOP = 760, 230, 20, 8, 56

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f } .title { font-size: 16px; font-weight: 600 }
.note { fill: #57606a }
.peer { fill: #9fb3c8 } .own { fill: #0969da }
.limit { fill: none; stroke: #9fb3c8; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .note { fill: #8d96a0 }
  .peer { fill: #4a5a6a } .own { fill: #4493f8 } .limit { stroke: #6a7a8a }
}
"""


@dataclass(frozen=True)
class Bar:
    """The bar of one server."""

    label: str
    value: float
    text: str
    kind: str = "peer"
    """Style: peer, own or limit."""


def chart(title: str, note: str, bars: list[Bar]) -> str:
    """Return a chart with horizontal bars, in the order given, as SVG."""
    height = TOP + len(bars) * (BAR + GAP) + GAP
    most = max(bar.value for bar in bars) or 1
    room = WIDTH - LABEL - 110
    size = f'viewBox="0 0 {WIDTH} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="8" y="22">{escape(title)}</text>',
        f'<text class="note" x="8" y="42">{escape(note)}</text>',
    ]
    for index, bar in enumerate(bars):
        y = TOP + index * (BAR + GAP)
        long = max(1.0, room * bar.value / most)
        parts += [
            f'<text x="{LABEL - 10}" y="{y + 15}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect class="{bar.kind}" x="{LABEL}" y="{y}" width="{long:.1f}" height="{BAR}" rx="2"/>',
            f'<text x="{LABEL + long + 8:.1f}" y="{y + 15}">{escape(bar.text)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])

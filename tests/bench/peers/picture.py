"""The picture for the README: dollars a million turns against the turn, on a logarithmic scale, as an SVG of its own.

Ours in colour, the peers in grey, each line named at its end. It has its own background in light and in dark, so that
it can be read on any page, and asks for no font that is not there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from tests.bench.peers.costs import MOST_TURNS
from tests.bench.peers.measure import Result

WIDTH, HEIGHT = 960, 600
LEFT, RIGHT, TOP, BOTTOM = 62, 306, 96, 52
LEAST, MOST = 1, 1000  # dollars
_LABEL_HEIGHT = 18
_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; fill: #57606a;
  paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round }
.title { font-size: 20px; font-weight: 600; fill: #1f2328 }
.back { fill: #ffffff } .grid { stroke: #e4e8ec; fill: none }
.peer { stroke: #8c959f; fill: none; stroke-width: 1.6 } .cross { stroke: #cf222e; fill: none; stroke-width: 2.2 }
.lead { stroke: #afb8c1; fill: none } .ours { fill: none; stroke-width: 3.2 }
.ours, .lead, .peer { stroke-linejoin: round } .own { font-weight: 600 }
.o0 { stroke: #0a7d43 } .o1 { stroke: #1f6feb } .o2 { stroke: #8250df }
.t0 { fill: #0a7d43 } .t1 { fill: #1f6feb } .t2 { fill: #8250df }
@media (prefers-color-scheme: dark) {
text { fill: #9da7b1; stroke: #0d1117 } .title { fill: #e6edf3 } .back { fill: #0d1117 } .grid { stroke: #21262d }
.peer { stroke: #768390 } .cross { stroke: #ff7b72 } .lead { stroke: #444c56 }
.o0 { stroke: #3fb950 } .o1 { stroke: #58a6ff } .o2 { stroke: #bc8cff }
.t0 { fill: #3fb950 } .t1 { fill: #58a6ff } .t2 { fill: #bc8cff }
}
"""


@dataclass
class _Label:
    """A name beside the end of its line; `y` may be moved, `at` is where the line ends."""

    text: str
    style: str
    x: float
    at: float
    y: float


def picture(ours: Sequence[Result], peers: Sequence[Result]) -> str:
    """The whole file. Peers lie beneath."""
    drawn = [*_frame()]
    labels: list[_Label] = []
    for result in peers:
        drawn += _line(result, "peer")
        labels.append(_label(result, ""))
    for number, result in reversed(list(enumerate(ours))):
        drawn += _line(result, f"ours o{number}")
        labels.append(_label(result, f"own t{number}"))
    _spread([label for label in labels if label.x > _x(MOST_TURNS)])
    _spread([label for label in labels if label.x <= _x(MOST_TURNS)])
    drawn += [line for label in labels for line in _named(label)]
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title about">'
    return "\n".join([head, f"<style>{_STYLE}</style>", *drawn, "</svg>", ""])


def _frame() -> Iterator[str]:
    yield f'<rect class="back" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
    yield f'<text id="title" class="title" x="{LEFT}" y="36">What a turn costs in DynamoDB</text>'
    about = (
        "Dollars for a million turns of 2,000 characters, on demand, by the turn of the conversation; logarithmic scale"
    )
    yield f'<text id="about" x="{LEFT}" y="58">{about}</text>'
    cross, refused = _cross(LEFT + 6, TOP - 20), "the store refuses the next turn: its item would outgrow 400 KB"
    yield f'{cross}<text x="{LEFT + 18}" y="{TOP - 16}">{refused}</text>'
    for dollars in (1, 3, 10, 30, 100, 300, 1000):
        y = _y(dollars)
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">${dollars}</text>'
    for turn in (1, *range(50, MOST_TURNS + 1, 50)):
        x = _x(turn)
        yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{turn}</text>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">turn</text>'


def _line(result: Result, style: str) -> Iterator[str]:
    costs = result.plain.costs
    kept = [cost for cost in costs if cost.turn <= 5 or cost.turn % 5 == 0 or cost is costs[-1]]
    points = " ".join(f"{_x(cost.turn):.1f},{_y(cost.dollars):.1f}" for cost in kept)
    yield f'<polyline class="{style}" points="{points}"/>'
    if result.plain.broke:
        yield _cross(_x(costs[-1].turn), _y(costs[-1].dollars))


def _cross(x: float, y: float) -> str:
    return f'<path class="cross" d="M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10"/>'


def _label(result: Result, style: str) -> _Label:
    last = result.plain.costs[-1]
    fails = f", fails at turn {result.plain.broke.turn}" if result.plain.broke else ""
    dollars = f"{last.dollars:.0f}" if last.dollars >= 10 else f"{last.dollars:.2f}"
    y = _y(last.dollars)
    return _Label(f"{result.configuration.name} ${dollars}{fails}", style, _x(last.turn) + 14, y, y)


def _spread(labels: list[_Label]) -> None:
    """Moves labels apart, as little as it takes, keeping their order."""
    labels.sort(key=lambda label: label.at)
    for _ in range(200):
        for above, below in itertools.pairwise(labels):
            overlap = _LABEL_HEIGHT - (below.y - above.y)
            if overlap > 0:
                above.y -= overlap / 2
                below.y += overlap / 2


def _named(label: _Label) -> Iterator[str]:
    if abs(label.y - label.at) > 3:
        yield f'<path class="lead" d="M{label.x - 12:.1f} {label.at:.1f}L{label.x - 3:.1f} {label.y:.1f}"/>'
    yield f'<text class="{label.style}" x="{label.x:.1f}" y="{label.y + 4:.1f}">{escape(label.text)}</text>'


def _x(turn: float) -> float:
    return LEFT + (turn - 1) / (MOST_TURNS - 1) * (WIDTH - LEFT - RIGHT)


def _y(dollars: float) -> float:
    share = math.log(max(dollars, LEAST) / LEAST) / math.log(MOST / LEAST)
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

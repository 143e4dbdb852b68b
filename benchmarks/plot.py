"""A run as a picture: SVG, readable on light and on dark pages."""

from __future__ import annotations

from typing import Final
from xml.sax.saxutils import escape

from benchmarks.contender import Role
from benchmarks.measure import Figures, Work
from benchmarks.storage import Report

__all__ = ["as_svg"]

_LABELS: Final = 250
_COLUMN: Final = 178
_BAR: Final = 104
_LINE: Final = 18
_STYLE: Final = """
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; }
.small { font-size: 11px; fill: #57606a; }
.pauth { fill: #0969da; } .floor { fill: #8c959f; } .other { fill: #c3c9d0; } .peer { fill: #d4843e; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .small { fill: #9198a1; }
  .pauth { fill: #58a6ff; } .floor { fill: #7d8590; } .other { fill: #4f565e; } .peer { fill: #e09b5a; }
}
"""


def as_svg(report: Report) -> str:
    """Bars, within a storage and a column to one scale: latency of a single caller, and operations a second of many."""
    tasks = sorted({result.work.tasks for result in report.results})
    columns = [Work(operation, number) for number in dict.fromkeys((tasks[:1] + tasks[-1:]) if tasks else []) for operation in ("save", "get")]
    parts: list[str] = []
    for number, work in enumerate(columns):
        x = _LABELS + number * _COLUMN
        alone = work.tasks == 1
        parts += [
            f'<text class="title" x="{x}" y="20">{work.operation}, {"one caller" if alone else f"{work.tasks} at once"}</text>',
            f'<text class="small" x="{x}" y="36">{"µs (median), less is better" if alone else "a second, more is better"}</text>',
        ]
    y = 44
    for driver in dict.fromkeys(result.driver for result in report.results):
        server = report.servers.get(driver)
        y += 2 * _LINE
        parts.append(f'<text class="title" x="8" y="{y - 6}">{escape(driver if server is None else f"{driver} ({server})")}</text>')
        here = [result for result in report.results if result.driver == driver]
        for contender, role in dict.fromkeys((result.contender, result.role) for result in here):
            parts.append(f'<text x="16" y="{y + 13}">{escape(contender)}</text>')
            for number, work in enumerate(columns):
                values = {result.contender: _value(result.figures, work) for result in here if result.work == work}
                if contender in values:
                    parts += _bar(_LABELS + number * _COLUMN, y, values[contender], max(values.values()), role)
            y += _LINE
    width, height = _LABELS + len(columns) * _COLUMN, y + 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">\n'
        f"<title>Token storages: latency and throughput, {escape(report.date)}</title>\n<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _value(figures: Figures, work: Work) -> float:
    return figures.p50 if work.tasks == 1 else figures.per_second


def _bar(x: int, y: int, value: float, largest: float, role: Role) -> list[str]:
    length = max(1.0, _BAR * value / largest)
    text = f"{value:,.1f}" if value < 10 else f"{value:,.0f}"
    return [
        f'<rect class="{role.value}" x="{x}" y="{y + 3}" width="{length:.1f}" height="12" rx="2"/>',
        f'<text class="small" x="{x + length + 5:.1f}" y="{y + 13}">{text}</text>',
    ]

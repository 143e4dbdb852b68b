"""A run about tokens as JSON, and as tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from benchmarks.report import between, table
from benchmarks.tokens.result import Cell, Found

__all__ = ["BEGIN", "END", "TokenReport", "as_json", "as_text", "into_page"]

BEGIN: Final = "<!-- tokens: begin (written by python -m benchmarks tokens --markdown) -->"
END: Final = "<!-- tokens: end -->"


@dataclass(slots=True)
class TokenReport:
    """Everything a run found out."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    settings: dict[str, float | int | None]
    parts: dict[str, Found] = field(default_factory=dict[str, Found])


def as_json(report: TokenReport) -> dict[str, Any]:
    """All of it."""
    parts = {name: {**asdict(found), "aims": [{**asdict(aim), "verdict": aim.verdict} for aim in found.aims]} for name, found in report.parts.items()}
    return {"format": 1, "date": report.date, "machine": report.machine, "versions": report.versions, "settings": report.settings, "parts": parts}


def as_text(report: TokenReport, *, level: int = 2) -> str:
    """Tables, under headings of that level: first what was aimed at, then each part."""
    mark = "#" * level
    parts = [_preamble(report)]
    aims = [(found.title, aim.what, f"{_number(aim.measured)}{aim.unit}", aim.verdict) for found in report.parts.values() for aim in found.aims]
    if aims:
        parts += [f"{mark} Goals", table(("", "goal", "measured", ""), aims, right=(2,))]
    for found in report.parts.values():
        parts.append(f"{mark} {found.title}")
        if found.rows:
            right = [number for number, cell in enumerate(found.rows[0]) if not isinstance(cell, str)]
            parts.append(table(found.columns, [[_cell(cell) for cell in row] for row in found.rows], right=right))
        notes = [*found.notes, *(f"{name}: {why}" for name, why in found.absent.items())]
        if notes:
            parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def into_page(page: str, report: TokenReport) -> str:
    """The page with its tables replaced by this run's.

    :raises ValueError: it has no place for them.
    """
    return between(page, as_text(report, level=3), begin=BEGIN, end=END)


def _preamble(report: TokenReport) -> str:
    machine = report.machine
    packages = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    seconds = report.settings["seconds"]
    long = "a quick run whose figures mean nothing" if seconds is None else f"{seconds:g} s for each contender and work"
    return (
        f"{report.date}; {machine['processors']} processors ({machine['architecture']}, {machine['system']}, load {machine['load_at_start']} at the "
        f"start); {machine['python']}; {long}, medians of {report.settings['rounds']} rounds.\n{packages}."
    )


def _cell(value: Cell) -> str:
    return "" if value is None else _number(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"

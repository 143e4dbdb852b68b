"""A run as JSON, and as tables that are read in a terminal and in Markdown alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from benchmarks.goals import verdict
from benchmarks.storage import Report

__all__ = ["BEGIN", "END", "as_json", "as_text", "between", "into_page", "table"]

BEGIN: Final = "<!-- figures: begin (written by python -m benchmarks storage --markdown) -->"
END: Final = "<!-- figures: end -->"


def as_json(report: Report) -> dict[str, Any]:
    """All of it. Latencies in microseconds."""
    return {
        "format": 1,
        "date": report.date,
        "machine": report.machine,
        "versions": report.versions,
        "settings": report.settings,
        "servers": report.servers,
        "results": [
            {
                "driver": result.driver,
                "contender": result.contender,
                "role": result.role.value,
                "operation": result.work.operation,
                "tasks": result.work.tasks,
                **asdict(result.figures),
                "pauth_speedup": report.speedup(result),
            }
            for result in report.results
        ],
        "absent": [{"driver": driver, "contender": contender, "why": why} for driver, contender, why in report.absent],
        "goals": [
            {
                "driver": goal.driver,
                "operation": goal.work.operation,
                "tasks": goal.work.tasks,
                "against": goal.against.value,
                "bound": goal.bound,
                "at_most": goal.at_most,
                "ratio": outcome.ratio,
                "verdict": verdict(goal, outcome.ratio),
            }
            for outcome in report.outcomes()
            for goal in (outcome.goal,)
        ],
    }


def as_text(report: Report, *, level: int = 2) -> str:
    """Tables, under headings of that level."""
    mark = "#" * level
    parts = [_preamble(report)]
    outcomes = [
        (
            outcome.goal.driver,
            f"{outcome.goal.work.operation} @{outcome.goal.work.tasks}",
            str(outcome.goal),
            f"{outcome.ratio:.2f}x",
            verdict(outcome.goal, outcome.ratio),
        )
        for outcome in report.outcomes()
    ]
    if outcomes:
        parts += [f"{mark} Goals", table(("storage", "work", "goal", "measured", ""), outcomes, right=(3,))]
    for driver in dict.fromkeys([result.driver for result in report.results] + [driver for driver, _, _ in report.absent]):
        server = report.servers.get(driver)
        parts.append(f"{mark} {driver}{f' ({server})' if server else ''}")
        rows = [
            (
                f"{result.work.operation} @{result.work.tasks}",
                result.contender,
                _microseconds(result.figures.p50),
                _microseconds(result.figures.p95),
                _microseconds(result.figures.p99),
                f"{result.figures.per_second:,.0f}",
                "" if (speedup := report.speedup(result)) is None else f"{speedup:.2f}x as fast",
            )
            for result in report.results
            if result.driver == driver
        ]
        if rows:
            parts.append(table(("work", "", "p50 µs", "p95 µs", "p99 µs", "a second", "pauth is"), rows, right=(2, 3, 4, 5, 6)))
        absent = [f"- {contender}: {why}" for name, contender, why in report.absent if name == driver]
        if absent:
            parts.append("\n".join(absent))
    return "\n\n".join(parts) + "\n"


def into_page(page: str, report: Report) -> str:
    """The page with its figures replaced by this run's.

    :raises ValueError: the page has no place for them, between :data:`BEGIN` and :data:`END`.
    """
    return between(page, as_text(report, level=3), begin=BEGIN, end=END)


def between(page: str, text: str, *, begin: str, end: str) -> str:
    """The page with what stands between two lines replaced.

    :raises ValueError: it has no such lines.
    """
    before, found, rest = page.partition(begin)
    _, found_too, after = rest.partition(end)
    if not found or not found_too:
        raise ValueError(f"the page has no lines {begin!r} and {end!r} for the figures to stand between")
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def _preamble(report: Report) -> str:
    machine = report.machine
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    seconds = report.settings["seconds"]
    long = "a quick run whose figures mean nothing" if seconds is None else f"{seconds:g} s for each contender and work"
    return (
        f"{report.date}; {machine['processors']} processors ({machine['architecture']}, {machine['system']}, load {machine['load_at_start']} at the "
        f"start); {machine['python']}; {long}, medians of {report.settings['rounds']} rounds.\n{versions}."
    )


def _microseconds(value: float) -> str:
    return f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Rows under a head, the columns ``right`` set to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [cell.rjust(width) if column in right else cell.ljust(width) for column, (cell, width) in enumerate(zip(cells, widths, strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (width + 1) + ":" if column in right else "-" * (width + 2) for column, width in enumerate(widths))
    return "\n".join([line(head), f"|{rule}|", *(line(row) for row in rows)])

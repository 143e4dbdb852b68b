"""A run of scans as tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from benchmarks.report import between, table
from benchmarks.scan import Scan, ScanReport

__all__ = ["BEGIN", "END", "as_json", "as_text", "into_page"]

BEGIN: Final = "<!-- scans: begin (written by python -m benchmarks scan --markdown) -->"
END: Final = "<!-- scans: end -->"


def as_json(report: ScanReport) -> dict[str, Any]:
    """All of it. Times in milliseconds, but how long it took to fill a store in seconds."""
    return {"format": 1, **asdict(report)}


def as_text(report: ScanReport) -> str:
    """A table of all scans, then what the servers said of how they went about them."""
    machine = report.machine
    packages = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    head = (
        f"{report.date}; {report.records:,} records; {machine['processors']} processors ({machine['architecture']}, {machine['system']}, "
        f"load {machine['load_at_start']} at the start); {machine['python']}.\n{packages}."
    )
    columns = ("storage", "due", "page of", "records", "pages", "all, ms", "µs a record", "page, ms", "worst", "loop held, ms", "server, ms")
    parts = [head, table(columns, [_row(scan) for scan in report.scans], right=range(2, len(columns)))]
    notes = [f"- {name}: {report.records:,} records were written in {seconds:.0f} s." for name, seconds in report.filled.items()]
    notes += [f"- {name}, {page}, {plan}." for name, page, plan in report.plans]
    notes += [f"- {name}: {why}" for name, why in report.absent]
    return "\n\n".join([*parts, "\n".join(notes)]) + "\n"


def _row(scan: Scan) -> tuple[str, ...]:
    return (
        scan.driver,
        f"{scan.share:.1%}" if scan.phase == "first" else f"{scan.share:.1%}, rewritten",
        f"{scan.limit:,}",
        f"{scan.records:,}",
        f"{scan.pages:,}",
        f"{scan.total:,.1f}",
        f"{scan.total * 1000 / scan.records:.1f}" if scan.records else "",
        f"{scan.page_median:.1f}",
        f"{scan.page_worst:.1f}",
        f"{scan.loop_held:.1f}",
        "" if scan.server is None else f"{scan.server:,.1f}",
    )


def into_page(page: str, report: ScanReport) -> str:
    """The page with its table replaced by this run's.

    :raises ValueError: it has no place for one.
    """
    return between(page, as_text(report), begin=BEGIN, end=END)

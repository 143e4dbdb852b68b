"""``python -m benchmarks storage``, ``scan``, ``sync`` and ``tokens``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import scan, scan_report, storage, sync
from benchmarks.measure import Effort
from benchmarks.plot import as_svg
from benchmarks.report import as_json, as_text, into_page
from benchmarks.storage import driver_of
from benchmarks.tokens import report as tokens_report
from benchmarks.tokens import run as tokens_run

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says; the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    known: Sequence[str] = options.known
    servers: Sequence[str] = options.servers
    urls: dict[str, str] = {}
    for url in options.url:
        driver = driver_of(url)
        if driver not in servers:
            schemes = " or ".join(f"{name}://" for name in ("redis", "postgresql", "mariadb", "mysql", "sqlite") if driver_of(f"{name}:") in servers)
            parser.error(f"--url: no benchmark for that scheme; give {schemes}")
        urls[driver] = url
    drivers: list[str] = options.drivers or list(known)
    unknown = [name for name in drivers if name not in known]
    if unknown:
        parser.error(f"no benchmark for {unknown[0]!r}; there is one for {', '.join(known)}")
    with tempfile.TemporaryDirectory(prefix="pauth-benchmark-", dir=options.folder, ignore_cleanup_errors=True) as folder:
        options.work(options, drivers, urls, Path(folder))
    return 0


def _storage(options: argparse.Namespace, drivers: Sequence[str], urls: Mapping[str, str], folder: Path) -> None:
    effort = Effort(None, 1) if options.quick else Effort(options.seconds, options.rounds)
    report = asyncio.run(storage.run(drivers, urls=urls, tasks=options.tasks, effort=effort, folder=folder, say=_say))
    sys.stdout.write(as_text(report))
    if options.json:
        options.json.write_text(json.dumps(as_json(report), indent=1) + "\n", encoding="utf-8")
    if options.svg:
        options.svg.write_text(as_svg(report), encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(into_page(options.markdown.read_text(encoding="utf-8"), report), encoding="utf-8")


def _scan(options: argparse.Namespace, drivers: Sequence[str], urls: Mapping[str, str], folder: Path) -> None:
    records, limits = (2000, (500,)) if options.quick else (options.records, scan.LIMITS)
    report = asyncio.run(scan.run(drivers, urls=urls, records=records, limits=limits, folder=folder, say=_say))
    sys.stdout.write(scan_report.as_text(report))
    if options.json:
        options.json.write_text(json.dumps(scan_report.as_json(report), indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        page = options.markdown.read_text(encoding="utf-8")
        options.markdown.write_text(scan_report.into_page(page, report), encoding="utf-8")


def _tokens(options: argparse.Namespace, parts: Sequence[str], urls: Mapping[str, str], folder: Path) -> None:
    effort = Effort(None, 1) if options.quick else Effort(options.seconds, options.rounds)
    records = 1000 if options.quick else options.records
    report = asyncio.run(tokens_run.run(parts, urls=urls, effort=effort, records=records, folder=folder, say=_say))
    sys.stdout.write(tokens_report.as_text(report))
    if options.json:
        options.json.write_text(json.dumps(tokens_report.as_json(report), indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        page = options.markdown.read_text(encoding="utf-8")
        options.markdown.write_text(tokens_report.into_page(page, report), encoding="utf-8")


def _sync(options: argparse.Namespace, drivers: Sequence[str], urls: Mapping[str, str], folder: Path) -> None:
    effort = Effort(None, 1) if options.quick else Effort(options.seconds, options.rounds)
    report = sync.run(drivers, urls=urls, effort=effort, folder=folder, say=_say)
    sys.stdout.write(sync.as_text(report))
    if options.json:
        options.json.write_text(json.dumps(sync.as_json(report), indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(sync.into_page(options.markdown.read_text(encoding="utf-8"), report), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What pauth costs, beside the raw drivers and py-key-value.")
    works = parser.add_subparsers(required=True, metavar="WORK")
    saving = works.add_parser("storage", help="save and get, each driver")
    saving.set_defaults(work=_storage, known=tuple(storage.DRIVERS), servers=tuple(storage.DRIVERS))
    scanning = works.add_parser("scan", help="what expires, in a store of a million records")
    scanning.set_defaults(work=_scan, known=scan.DRIVERS, servers=scan.DRIVERS)
    blocking = works.add_parser("sync", help="blocking calls, beside other ways to make them")
    blocking.set_defaults(work=_sync, known=sync.DRIVERS, servers=sync.DRIVERS)
    tokens = works.add_parser("tokens", help="handing out, refreshing and sharing tokens, beside other libraries")
    tokens.set_defaults(work=_tokens, known=tuple(tokens_run.PARTS), servers=("postgresql", "redis"))
    for each in (saving, scanning, blocking, tokens):
        what = "PART" if each is tokens else "DRIVER"
        each.add_argument("drivers", nargs="*", metavar=what, help=f"all by default: {' '.join(each.get_default('known'))}")
        each.add_argument(
            "--url",
            action="append",
            default=[],
            help="a server of yours (it gets records and tables named pauth…benchmark, removed at the end); else one is started",
        )
        each.add_argument("--folder", type=Path, help="where files and databases go for the time being (the system's temporary folder)")
        each.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
        each.add_argument("--markdown", type=Path, metavar="FILE", help="put the tables between the marks of this page")
        each.add_argument("--quick", action="store_true", help="a few calls each: to see that it runs; the figures mean nothing")
    for each in (saving, blocking, tokens):
        each.add_argument("--seconds", type=_positive, default=2.0, help="for each contender and each work (2)")
        each.add_argument("--rounds", type=int, default=8, choices=range(1, 101), metavar="N", help="in how many turns (8)")
    for each in (scanning, tokens):
        each.add_argument("--records", type=_records, default=1_000_000, metavar="N", help="how many are in the store (1,000,000)")
    saving.add_argument("--tasks", type=_numbers, default=[1, 64], metavar="N,N", help="how many at once (1,64)")
    saving.add_argument("--svg", type=Path, metavar="FILE", help="write a picture")
    return parser


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if not all(0 < number <= 64 for number in numbers):  # each task has users of its own
        raise ValueError(text)
    return list(dict.fromkeys(numbers))


def _records(text: str) -> int:
    number = int(text)
    if not 1000 <= number <= 5_000_000:  # fewer say nothing, and more would share their expiries
        raise ValueError(text)
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())

"""``python -m benchmarks storage``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Effort
from benchmarks.plot import as_svg
from benchmarks.report import as_json, as_text, into_page
from benchmarks.storage import DRIVERS, driver_of, run

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says; the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    urls: dict[str, str] = {}
    for url in options.url:
        driver = driver_of(url)
        if not driver:
            parser.error("--url: no benchmark for that scheme; give redis://, postgresql://, mariadb://, mysql:// or sqlite://")
        urls[driver] = url
    drivers: list[str] = options.drivers or list(DRIVERS)
    unknown = [name for name in drivers if name not in DRIVERS]
    if unknown:
        parser.error(f"no benchmark for {unknown[0]!r}; there is one for {', '.join(DRIVERS)}")
    effort = Effort(None, 1) if options.quick else Effort(options.seconds, options.rounds)
    with tempfile.TemporaryDirectory(prefix="pauth-benchmark-", dir=options.folder, ignore_cleanup_errors=True) as folder:
        report = asyncio.run(run(drivers, urls=urls, tasks=options.tasks, effort=effort, folder=Path(folder), say=_say))
    sys.stdout.write(as_text(report))
    if options.json:
        options.json.write_text(json.dumps(as_json(report), indent=1) + "\n", encoding="utf-8")
    if options.svg:
        options.svg.write_text(as_svg(report), encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(into_page(options.markdown.read_text(encoding="utf-8"), report), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What pauth costs, beside the raw drivers and py-key-value.")
    storage = parser.add_subparsers(required=True, metavar="storage").add_parser("storage", help="save and get, each driver")
    storage.add_argument("drivers", nargs="*", metavar="DRIVER", help=f"all by default: {' '.join(DRIVERS)}")
    storage.add_argument(
        "--url",
        action="append",
        default=[],
        help="a server of yours (it gets records and tables named pauth…benchmark, removed at the end); else one is started",
    )
    storage.add_argument("--tasks", type=_numbers, default=[1, 64], metavar="N,N", help="how many at once (1,64)")
    storage.add_argument("--seconds", type=_positive, default=2.0, help="for each contender and each work (2)")
    storage.add_argument("--rounds", type=int, default=8, choices=range(1, 101), metavar="N", help="in how many turns (8)")
    storage.add_argument("--folder", type=Path, help="where files and databases go for the time being (the system's temporary folder)")
    storage.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    storage.add_argument("--svg", type=Path, metavar="FILE", help="write a picture")
    storage.add_argument("--markdown", type=Path, metavar="FILE", help="put the tables between the marks of this page")
    storage.add_argument("--quick", action="store_true", help="a few calls each: to see that it runs; the figures mean nothing")
    return parser


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if not all(0 < number <= 64 for number in numbers):  # each task has users of its own
        raise ValueError(text)
    return list(dict.fromkeys(numbers))


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())

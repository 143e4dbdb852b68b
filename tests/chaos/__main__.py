"""The harness from the command line: ``python -m tests.chaos run SCENARIO``, ``matrix``, ``soak``."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from pauth.core.quirks import RotationClass
from tests.chaos.catalog import SCENARIOS
from tests.chaos.matrix import matrix, report, run_many, soak
from tests.chaos.stores import DRIVERS

__all__ = ["main"]


def _words(text: str) -> list[str]:
    return text.split(",")


def arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser(
        "run", help="one scenario, or several: " + ", ".join(name for name in SCENARIOS if ":" not in name) + ", crash:FAILPOINT …"
    )
    one.add_argument("scenarios", nargs="+", choices=sorted(SCENARIOS), metavar="SCENARIO")
    every = commands.add_parser("matrix", help="every failpoint, class and driver; pauses; and all other scenarios on every driver")
    long = commands.add_parser("soak", help="scenarios at random, for so many minutes")
    long.add_argument("--minutes", type=float, default=60.0)
    for command in (one, every, long):
        command.add_argument("--driver", type=_words, default=["sqlite"] if command is one else list(DRIVERS))
        command.add_argument("--rotation", type=_words, default=["RSF"] if command is one else list(RotationClass.__members__))
        command.add_argument("--parallel", type=int, default=6, help="runs at once")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--times", type=int, default=1)
        command.add_argument(
            "--keep", type=Path, help="a folder for all histories and logs; otherwise those of runs in which all was well are removed"
        )
        command.add_argument("--out", type=Path, help="a file for the table of results, in Markdown")
    return parser.parse_args(given)


def main(given: list[str]) -> int:
    chosen = arguments(given)
    folder: Path = chosen.keep or Path(tempfile.mkdtemp(prefix="pauth-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    options = {"parallel": chosen.parallel, "keep": chosen.keep is not None}
    if chosen.command == "run":
        plan = [
            (name, driver, rotation, chosen.seed + number)
            for name in chosen.scenarios
            for driver in chosen.driver
            for rotation in chosen.rotation
            for number in range(chosen.times)
        ]
        outcomes = asyncio.run(run_many(plan, folder, **options))
    elif chosen.command == "matrix":
        outcomes = asyncio.run(run_many(matrix(chosen.driver, chosen.rotation), folder, **options))
    else:
        outcomes = asyncio.run(soak(chosen.driver, chosen.rotation, folder, minutes=chosen.minutes, seed=chosen.seed, **options))
    text = report(outcomes, command=f"python -m tests.chaos {' '.join(given)}")
    if chosen.out is not None:
        chosen.out.write_text(text, encoding="utf-8")
    print(text)
    failed = any(outcome.found for outcome in outcomes)
    if failed:
        print(f"histories and logs are in {folder}")
    elif chosen.keep is None:
        shutil.rmtree(folder)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

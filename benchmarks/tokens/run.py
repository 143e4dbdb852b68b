"""One run about tokens: its parts, in turn."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from benchmarks.measure import Effort
from benchmarks.storage import machine, versions
from benchmarks.tokens import exchange, herd, hot, id_token, importing, making, memory, race, refresher, shell
from benchmarks.tokens.authority import authority
from benchmarks.tokens.report import TokenReport
from benchmarks.tokens.result import Setting, Way

__all__ = ["PARTS", "run"]

PARTS: Final[Mapping[str, Way]] = MappingProxyType(
    {
        "hot": hot.run,
        "endpoint": exchange.run,
        "herd": herd.run,
        "race": race.run,
        "refresher": refresher.run,
        "client": making.run,
        "memory": memory.run,
        "id-token": id_token.run,
        "import": importing.run,
        "shell": shell.run,
    }
)
_PACKAGES: Final = ("aiohttp", "cryptography", "joserfc", "orjson", "Authlib", "httpx", "httpx-oauth", "requests-oauthlib", "google-auth", "msal")


async def run(
    names: Sequence[str], *, urls: Mapping[str, str], effort: Effort, records: int, folder: Path, say: Callable[[str], None]
) -> TokenReport:
    """Measure.

    :param urls: by driver, the servers that are there already.
    :param records: how many there are in the stores of the refresher.
    :param say: told what goes on.
    """
    report = TokenReport(
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        machine=machine(),
        versions=versions(_PACKAGES),
        settings={"seconds": effort.seconds, "rounds": effort.rounds, "records": records},
    )
    for name in names:
        place = folder / name
        place.mkdir()
        say(f"tokens: {name}")
        async with authority() as server:
            setting = Setting(seconds=effort.seconds, rounds=effort.rounds, authority=server, folder=place, urls=urls, records=records, say=say)
            report.parts[name] = await PARTS[name](setting)
    return report

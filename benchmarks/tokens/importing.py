"""What an import adds to the start of Python."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from asyncio import to_thread
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Final

from benchmarks.tokens.result import Aim, Found, Setting

__all__ = ["run"]

_ROOT: Final = Path(__file__).parents[2]
_BARE: Final = "python"
_OURS: Final = "import pauth"
_PROGRAMS: Final = MappingProxyType(
    {
        _BARE: "",
        _OURS: "import pauth",
        "pauth, and what a client takes": "import pauth; pauth.OAuth2Client",
        "import aiohttp": "import aiohttp",
        "import httpx_oauth.oauth2": "import httpx_oauth.oauth2",
        "import requests_oauthlib": "import requests_oauthlib",
        "import google.oauth2.credentials": "import google.oauth2.credentials",
        "import msal": "import msal",
        "authlib's httpx client": "import authlib.integrations.httpx_client",
    }
)
_RUNS: Final = 15


async def run(setting: Setting) -> Found:
    """Milliseconds of a whole process, the byte code being there."""
    found = Found("Import", ("program", "ms", "over bare Python, ms", "times bare Python"))
    programs: dict[str, str] = {}
    for name, program in _PROGRAMS.items():
        package = program.partition("import ")[2].partition(".")[0].partition(";")[0]
        if package and find_spec(package) is None:
            found.absent[name] = f"not installed: {package}"
        else:
            programs[name] = program
    took: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(1 if setting.quick else _RUNS + 1):
        for name, program in programs.items():
            seconds = await to_thread(_start, program)
            if number or setting.quick:  # the first run may compile
                took[name].append(seconds * 1000)
    medians = {name: statistics.median(each) for name, each in took.items()}
    bare = medians[_BARE]
    found.rows = [(name, each, each - bare, each / bare) for name, each in medians.items()]
    found.aims = [Aim("import pauth: at most 1.5x bare Python's start", medians[_OURS] / bare, 1.5)]
    return found


def _start(program: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, cwd=_ROOT)  # noqa: S603  # the programs above
    return time.perf_counter() - began

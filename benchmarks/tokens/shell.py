"""What ``pauth token`` costs inside ``$(…)``, when the token is stored and valid."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from asyncio import to_thread
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from benchmarks.tokens.result import Aim, Found, Setting
from pauth import EncryptionKey
from pauth.cli.settings import LOGINS
from pauth.storage import EncryptedFileStorage, RecordKey

__all__ = ["run"]

_ASYNCIO: Final = 'python -c "import asyncio"'
_OURS: Final = "pauth token work"
_PROGRAMS: Final = MappingProxyType(
    {
        "python": "",
        _ASYNCIO: "import asyncio",
        _OURS: "from pauth.cli import main; main()",  # what the installed command does
    }
)
_NAMESPACE: Final = '["https://as.example", "a client"]'
_TOKEN: Final = "an-access-token"  # of nobody
_RUNS: Final = 25


async def run(setting: Setting) -> Found:
    """Milliseconds of a whole process, the byte code being there; the key is in the environment."""
    found = Found("In a shell", ("program", "ms", "times import asyncio"))
    key = EncryptionKey.generate()
    storage = EncryptedFileStorage(setting.folder / "tokens", key)
    now = time.time()
    login = {"provider": "https://as.example", "client_id": "a client", "namespace": _NAMESPACE}
    await storage.replace(RecordKey(LOGINS, "work"), login, expected_version=None)
    tokens = {"access_token": _TOKEN, "token_type": "Bearer", "issued_at": now, "expires_at": now + 86_400}
    await storage.replace(RecordKey(_NAMESPACE, "work"), tokens, expected_version=None)
    await storage.aclose()
    environment = {
        **os.environ,
        "PAUTH_ENCRYPTION_KEY": key.to_string().reveal(),
        "PAUTH_STORAGE_URL": f"file://{setting.folder / 'tokens'}",
        "XDG_CONFIG_HOME": str(setting.folder),
    }
    took: dict[str, list[float]] = {name: [] for name in _PROGRAMS}
    for number in range(1 if setting.quick else _RUNS + 1):
        for name, program in _PROGRAMS.items():
            arguments = ["token", "work"] if name == _OURS else []
            seconds, said = await to_thread(_start, program, arguments, environment)
            if said.strip() != (_TOKEN if name == _OURS else ""):
                raise RuntimeError(f"{name} has not printed what it is measured for")
            if number or setting.quick:  # the first run may compile
                took[name].append(seconds * 1000)
    medians = {name: statistics.median(each) for name, each in took.items()}
    found.rows = [(name, each, each / medians[_ASYNCIO]) for name, each in medians.items()]
    found.aims = [Aim("pauth token: at most 1.3x python -c 'import asyncio'", medians[_OURS] / medians[_ASYNCIO], 1.3)]
    found.notes = ["With the key in the system's keyring the import of `keyring` comes on top, which alone takes longer than `import asyncio`."]
    return found


def _start(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[float, str]:
    began = time.perf_counter()
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603  # the programs above
    return time.perf_counter() - began, done.stdout

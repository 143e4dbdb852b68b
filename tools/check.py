"""Run everything that must pass, on a machine that has only Python (3.11 or newer) and a package registry: ``python3 tools/check.py``.

Makes an environment of its own (``.venv-check``), installs nox and uv there, and runs nox. Arguments go to nox: ``python3 tools/check.py -s lint``.
The exit status is nox's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv-check"
REQUIREMENTS = ROOT / "requirements-check.txt"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

# uv does not read pip's settings; these are the ones a machine cannot do without.
SETTINGS = {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE"}


def prepare() -> None:
    """Make the environment, unless it is there with the pinned versions in it."""
    stamp = ENVIRONMENT / "made-for"
    wanted = f"{sys.version}\n{ROOT}\n{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()}\n"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    try:
        venv.create(ENVIRONMENT, with_pip=True)
    except subprocess.CalledProcessError:
        sys.exit("this Python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv")
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", REQUIREMENTS], check=True)
    stamp.write_text(wanted, encoding="utf-8")


def environment() -> dict[str, str]:
    """This process's environment, with a home that can be written to, and with what pip is told about the registry told to uv."""
    result = dict(os.environ)
    if not os.access(Path("~").expanduser(), os.W_OK):  # a service account: uv, npm and pyright want to keep caches
        home = ROOT / ".cache" / "home"
        home.mkdir(parents=True, exist_ok=True)
        result["HOME"] = str(home)
    result["PATH"] = os.pathsep.join([str(PYTHON.parent), os.environ.get("PATH", os.defpath)])
    listing = subprocess.run([PYTHON, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True).stdout
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        variable = SETTINGS.get(name.rpartition(".")[2])
        if variable is not None:
            result.setdefault(variable, value.strip("'\""))
    return result


def main() -> int:
    """Prepare, then run nox in the project's folder; gives its exit status."""
    if sys.version_info < (3, 11):
        sys.exit(f"pauth needs Python 3.11 or newer, this is {sys.version.split()[0]}")
    prepare()
    arguments = [str(PYTHON), "-m", "nox", *sys.argv[1:]]
    return subprocess.run(arguments, cwd=ROOT, env=environment(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

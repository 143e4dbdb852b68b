"""What the tests of the file storage share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from pauth.storage import RecordKey
from pauth.storage.codec import Codec
from pauth.storage.files import EncryptedFileStorage
from pauth.storage.files.root import TokenFolder
from pauth.storage.keys import Keyring
from tests.storage.kit import KEY

ROOT: Final = Path(__file__).parents[3]
ALICE: Final = RecordKey("provider-a", "alice")
BOB: Final = RecordKey("provider-a", "bob")


def files(folder: Path, **options: Any) -> EncryptedFileStorage:
    """A storage in ``folder/tokens``, with the tests' key."""
    return EncryptedFileStorage(folder / "tokens", options.pop("key", KEY), **options)


def token_files(folder: Path) -> list[Path]:
    """The files of all records below a folder."""
    return sorted(folder.rglob("*.token"))


def found(folder: Path, pattern: str) -> list[Path]:
    """The files below a folder whose names match."""
    return sorted(folder.rglob(pattern))


def leftovers(folder: Path) -> list[Path]:
    """Files that were being written."""
    return sorted(folder.rglob("*.tmp"))


def open_root(folder: Path, *, patience: float = 5.0) -> TokenFolder:
    """The folder itself, under the tests' key."""
    return TokenFolder(str(folder), Codec(Keyring([KEY])), patience=patience, allow_network=False)


def run(program: str, *arguments: str) -> str:
    """What a Python program prints; it must end well and say nothing on standard error."""
    done = subprocess.run([sys.executable, "-c", program, *arguments], check=False, capture_output=True, text=True, cwd=ROOT)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python program with pipes for all it reads and writes."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)

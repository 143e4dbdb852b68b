"""Backends of the keyring library for the tests, named by `PYTHON_KEYRING_BACKEND`. What they keep is in memory, for one process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked


class Good(KeyringBackend):
    """One that works."""

    priority: Any = 5
    kept: ClassVar[dict[tuple[str, str], str]] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password


class InFile(Good):
    """One that other processes see too, in the file that a variable names."""

    def get_password(self, service: str, username: str) -> str | None:
        file = Path(os.environ["FAKE_KEYRING_FILE"])
        return file.read_text() if file.exists() else None

    def set_password(self, service: str, username: str, password: str) -> None:
        Path(os.environ["FAKE_KEYRING_FILE"]).write_text(password)


class Plaintext(Good):
    """One that protects nothing, as its priority says."""

    priority = 0.5


class Locked(KeyringBackend):
    """One that nobody unlocks."""

    priority: Any = 5

    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked("CANARY of its own")

    set_password = get_password  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


class Forgetful(Good):
    """One that keeps nothing and does not say so."""

    def set_password(self, service: str, username: str, password: str) -> None:
        pass


class Chain(Good):
    """Several, as keyring puts them together; its own priority says nothing of the first of them."""

    priority = 10
    backends: ClassVar[list[Any]] = [Plaintext]  # only its priority is asked for

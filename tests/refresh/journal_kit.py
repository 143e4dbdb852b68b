"""What the tests of the journal share: a database that takes no tokens for a while, and processes that have one for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from pauth import EncryptionKey
from pauth.errors import StorageUnavailable
from pauth.refresh.coordinator import RefreshCoordinator
from pauth.storage import DatabaseTokenStorage, Record, RecordKey
from pauth.testing import ManualClock
from tests.refresh.kit import KEY, passing
from tests.refresh.rotating import Rotating

CRYPTO: Final = EncryptionKey.generate()


class Database(DatabaseTokenStorage):
    """A database that takes no tokens while it is down."""

    def __init__(self, folder: Path, clock: ManualClock, **options: Any) -> None:
        super().__init__(f"sqlite+aiosqlite:///{folder / 'tokens.db'}", clock=clock, **options)
        self.down = False

    async def replace(self, key: RecordKey, tokens: Mapping[str, Any], *, expected_version: int | None, **options: Any) -> Record | None:
        if self.down and "refresh_attempts" not in tokens:
            raise StorageUnavailable("the disk is full")
        return await super().replace(key, tokens, expected_version=expected_version, **options)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "journal").glob("*")) if (folder / "journal").is_dir() else []


async def spill(rotating: Rotating, storage: Database, folder: Path, **options: Any) -> RefreshCoordinator:
    """A process that has a token which the store does not take."""
    coordinator = rotating.elsewhere(storage, journal=folder / "journal", **options)
    await rotating.stored_expired(storage)
    storage.down = True
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, coordinator.get(KEY))
    return coordinator


def dies(coordinator: RefreshCoordinator) -> None:
    """Nothing of this process goes on."""
    for offering in coordinator._waiting._offerings.values():  # pyright: ignore[reportPrivateUsage]
        offering.task.cancel()

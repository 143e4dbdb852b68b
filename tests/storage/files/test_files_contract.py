"""The file storage passes the contract of all storages."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pauth.storage import CoordinatedTokenStorage
from pauth.storage.files import EncryptedFileStorage, FileDriver
from pauth.testing.clock import ManualClock
from tests.storage.contract import StorageContract
from tests.storage.files.kit import files


class _LeaseClock:
    """The machine's time since boot, as the test's clock has it."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock

    def boot(self) -> tuple[bytes, int]:
        return b"b" * 16, int(self.clock.monotonic() * 1000)

    def wall(self) -> int:
        return int(self.clock.time() * 1000)


class _Files(StorageContract):
    examples = 5

    def on(self, clock: ManualClock, storage: EncryptedFileStorage) -> CoordinatedTokenStorage:
        driver = storage._driver  # pyright: ignore[reportPrivateUsage]
        assert isinstance(driver, FileDriver)
        driver._clock = _LeaseClock(clock)  # pyright: ignore[reportPrivateUsage]
        return storage

    def break_storage(self, storage: object) -> None:
        def fail(*_: object, **__: object) -> int:
            raise OSError(errno.EIO, "CANARY")

        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(os, "open", fail)

    def mend_storage(self, storage: object) -> None:
        self.patch.undo()


class TestEncrypted(_Files):
    examples = 25

    @pytest.fixture
    def storage(self, tmp_path: Path, clock: ManualClock) -> CoordinatedTokenStorage:
        return self.on(clock, files(tmp_path, clock=clock))


class TestOneByOne(_Files):
    @pytest.fixture
    def storage(self, tmp_path: Path, clock: ManualClock) -> CoordinatedTokenStorage:
        return self.on(clock, files(tmp_path, clock=clock, coalesce=False))


@pytest.mark.plaintext_files
class TestPlaintext(_Files):
    @pytest.fixture
    def storage(self, tmp_path: Path, clock: ManualClock) -> CoordinatedTokenStorage:
        with pytest.warns(UserWarning, match="insecure_plaintext=True") as caught:
            storage = EncryptedFileStorage(tmp_path / "tokens", insecure_plaintext=True, clock=clock)
        assert caught[0].filename == __file__
        return self.on(clock, storage)

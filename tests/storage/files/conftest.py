from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.storage.files.kit")


@pytest.fixture
def memory_folder() -> Iterator[Path]:
    """A folder in memory, if there is such a place, for tests of many operations that are not about the disk."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)

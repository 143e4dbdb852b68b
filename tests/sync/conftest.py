from __future__ import annotations

from collections.abc import Iterator

import pytest

from pauth.clock import SystemClock
from tests.storage.kit import KEY
from tests.sync.kit import Town, a_town


@pytest.fixture
def town() -> Iterator[Town]:
    with a_town() as town:
        yield town


@pytest.fixture
def real_town(monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    """One whose clock is the system's, for programs of their own."""
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", KEY.to_string().reveal())
    with a_town(SystemClock()) as town:
        yield town

"""SyncTokenRefresher: a whole store kept fresh by a program that cannot await."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pauth import ConfigurationError, MemoryTokenStorage, SyncTokenStorage
from pauth.refresh.refresher import RefresherProgress
from pauth.sync import SyncTokenRefresher
from tests.storage.kit import DictStorage
from tests.sync.kit import LIFETIME, Town, make_storage

USERS = ("alice", "bob", "carol")


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_one_scan(town: Town, tmp_path: Path, kind: str) -> None:
    progress: list[RefresherProgress] = []
    with town.client(storage := make_storage(kind, tmp_path, town.clock)) as client:
        for user in USERS:
            town.log_in(client, user)
        refresher = SyncTokenRefresher([client], interval=60.0, on_progress=progress.append, clock=town.clock)
        assert refresher.run_once().refreshed == 0
        town.clock.advance(LIFETIME - 30)
        assert refresher.run_once().refreshed == 3
        assert refresher.progress.refreshed == 3
        assert progress[-1].refreshed == 3
        assert town.refreshes() == 3
    SyncTokenStorage(storage).close()


@pytest.mark.parametrize("way", ["the end of the block", "stop"])
def test_it_runs_until_it_is_told_to_stop(town: Town, way: str) -> None:
    """By another thread, or by a signal handler."""
    with town.client(MemoryTokenStorage(clock=town.clock)) as client:
        town.log_in(client)
        town.clock.advance(LIFETIME - 30)
        scanned = threading.Event()
        refresher = SyncTokenRefresher([client], on_progress=lambda progress: scanned.set() if progress.refreshed else None, clock=town.clock)
        running = threading.Thread(target=refresher.run)
        with refresher:
            running.start()
            scanned.wait()
            if way == "stop":
                refresher.stop()
                running.join()
        running.join()
    assert town.refreshes() == 1


def test_a_storage_without_lists_is_refused(town: Town) -> None:
    with pytest.raises(ConfigurationError, match="needs one of pauth's own storages"):
        SyncTokenRefresher([town.client(DictStorage())])

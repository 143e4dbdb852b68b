"""Where a client keeps rotated tokens that its store does not take, and whom it tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import platformdirs
import pytest

from pauth import OAuth2Client
from pauth.events import EventStream, TokenIssued
from pauth.storage import DatabaseTokenStorage
from tests.client.kit import Bench
from tests.storage.kit import KEY


def journal_of(**options: Any) -> Path | None:
    """The folder that a client with these options would use; ``None`` if it uses none."""
    storage = DatabaseTokenStorage("sqlite+aiosqlite:///no.db", encryption_key=KEY)
    client = OAuth2Client("github", "client-1", "CANARY-secret", token_storage=storage, **options)
    journal: Any = client._tokens._saver._journal  # pyright: ignore[reportPrivateUsage]
    return None if journal is None else Path(journal.folder._folder)


def test_by_default_it_is_among_the_users_own_state(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("PAUTH_JOURNAL")
        else:
            monkeypatch.setenv("PAUTH_JOURNAL", value)
        assert journal_of() == platformdirs.user_state_path("pauth") / "journal"


def test_the_environment_names_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAUTH_JOURNAL", str(tmp_path / "env"))
    assert journal_of() == tmp_path / "env"
    assert journal_of(journal=None) == tmp_path / "env"


@pytest.mark.parametrize("kind", [str, Path])
def test_the_argument_counts_more_than_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: Any) -> None:
    monkeypatch.setenv("PAUTH_JOURNAL", str(tmp_path / "env"))
    assert journal_of(journal=kind(tmp_path / "own")) == tmp_path / "own"


def test_false_is_for_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAUTH_JOURNAL", str(tmp_path / "env"))
    assert journal_of(journal=False) is None


def test_making_a_client_makes_no_folder(tmp_path: Path) -> None:
    journal_of(journal=tmp_path / "own")
    assert list(tmp_path.iterdir()) == []


async def test_the_events_go_to_the_stream_that_is_given(bench: Bench) -> None:
    stream = EventStream(log=False)
    told: list[Any] = []
    stream.subscribe(told.append)
    client, other = bench.client(events=stream), bench.client()
    assert client.events is stream
    assert other.events is not stream
    assert other.events is other.events
    login = await bench.log_in(client)
    (issued,) = told
    assert isinstance(issued, TokenIssued)
    assert (issued.namespace, issued.user_id, issued.scope) == (client.namespace, "alice", login.token.scope)
    assert issued.token == stream.fingerprint(login.token.access_token)

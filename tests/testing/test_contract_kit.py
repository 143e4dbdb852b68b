"""The contract kit finds what is wrong with a storage; a kit that passes everything would be worse than none."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from pauth.errors import UnsupportedRecord
from pauth.storage import RecordKey, coordinated
from pauth.storage.memory import MemoryTokenStorage
from pauth.testing.contract import StorageContract
from pauth.testing.contract_coordinated import CoordinatedStorageContract


class Folding:
    """A database with a case-insensitive collation."""

    def __init__(self) -> None:
        self.saved: dict[str, dict[str, Any]] = {}

    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        self.saved[user_id.casefold()] = json.loads(json.dumps(tokens))

    async def get_token(self, user_id: str) -> dict[str, Any] | None:
        return self.saved.get(user_id.casefold())

    async def delete_token(self, user_id: str) -> None:
        self.saved.pop(user_id.casefold(), None)


class Rounding(Folding):
    """A store whose numbers are floats."""

    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        self.saved[user_id] = json.loads(json.dumps(tokens), parse_int=float)


class Merging(Folding):
    """A store that updates members instead of replacing the record."""

    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        self.saved.setdefault(user_id, {}).update(tokens)


class Short(Folding):
    """A column of 1,000 bytes."""

    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        self.saved[user_id] = {name: value[:1000] if isinstance(value, str) else value for name, value in tokens.items()}


@pytest.mark.parametrize(
    ("storage", "test"),
    [
        (Folding, "test_confusable_ids_are_distinct_users_px_5"),
        (Rounding, "test_any_json_comes_back_equal"),
        (Merging, "test_saving_again_replaces"),
        (Short, "test_any_json_comes_back_equal"),
    ],
)
def test_a_wrong_storage_fails(storage: type[Folding], test: str) -> None:
    with pytest.raises((AssertionError, UnsupportedRecord)):
        getattr(StorageContract(), test)(coordinated(storage()))


class Blind(MemoryTokenStorage):
    """It writes whatever is stored."""

    async def replace(self, key: RecordKey, tokens: Any, *, expected_version: int | None, **options: Any) -> Any:
        return await super().replace(key, tokens, expected_version=None)


@pytest.mark.parametrize(
    "test", ["test_another_version_is_not_replaced", "test_64_writers_of_one_version_have_one_winner_sq_2", "test_lineage_is_compared"]
)
def test_a_storage_that_does_not_compare_fails(test: str) -> None:
    with pytest.raises(AssertionError):
        getattr(CoordinatedStorageContract(), test)(Blind())


def test_faults_are_not_tried_on_a_storage_that_says_not_how() -> None:
    with pytest.raises(pytest.skip.Exception, match="how to break it"):
        StorageContract().break_storage(None)


def test_the_contract_is_among_the_names_of_the_package() -> None:
    import pauth.testing

    assert pauth.testing.StorageContract is StorageContract
    assert pauth.testing.CoordinatedStorageContract is CoordinatedStorageContract
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = getattr(pauth.testing, "Nothing")  # noqa: B009


def test_real_time_passes_for_leases_on_a_servers_clock() -> None:
    before = time.monotonic()
    CoordinatedStorageContract().wait_for_the_server(0.001)
    assert time.monotonic() > before

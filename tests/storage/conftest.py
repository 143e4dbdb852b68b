from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.storage.contract", "tests.storage.kit", "pauth.testing.contract", "pauth.testing.contract_coordinated")

from pauth.testing.contract import StorageContract  # noqa: E402  # whose asserts are to be rewritten


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A storage that has nothing to break (memory) or whose faults have tests of their own has no such test, rather than a skipped one."""
    unbreakable = [
        item
        for item in items
        if isinstance(item, pytest.Function)
        and item.originalname == StorageContract.test_a_store_out_of_reach_is_unavailable_and_loses_nothing_p12_p20.__name__
        and getattr(item.cls, "break_storage", None) is StorageContract.break_storage
    ]
    gone = set(unbreakable)
    items[:] = [item for item in items if item not in gone]
    config.hook.pytest_deselected(items=unbreakable)

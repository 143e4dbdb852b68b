from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    *(f"tests.storage.sql.{name}" for name in ("kit", "contracts")), "pauth.testing.contract", "pauth.testing.contract_coordinated"
)

from tests.support.sql_servers import (  # noqa: E402  # after what is above
    installed_mariadb,
    installed_postgres,
    mariadb,
    own_mariadb,
    own_postgres,
    postgres,
    pytest_collection_modifyitems,
)

__all__ = ["installed_mariadb", "installed_postgres", "mariadb", "own_mariadb", "own_postgres", "postgres", "pytest_collection_modifyitems"]

from __future__ import annotations

from tests.support.sql_servers import installed_mariadb, installed_postgres, mariadb, postgres, pytest_collection_modifyitems

__all__ = ["installed_mariadb", "installed_postgres", "mariadb", "postgres", "pytest_collection_modifyitems"]

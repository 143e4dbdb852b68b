"""For the tests of programs that use pauth: an authorization server in this process, faults to script into it, and a clock to move by hand.

::

    async with AuthorizationServer(rotation="RSF") as server:
        client = server.register_client(redirect_uris=["https://app.example/callback"])
        ...
        callback = await server.authorize(url, user="alice")
        server.script("token", faults.status(503))
        assert server.ledger.count(endpoint="token", grant_type="refresh_token") == 1
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pauth.core.quirks import RotationClass
from pauth.testing import faults
from pauth.testing.clock import ManualClock
from pauth.testing.faults import Fault, Hold
from pauth.testing.ledger import Ledger, LedgerEntry, ResourceLedger, ResourceUse, token_hash
from pauth.testing.messages import SeenRequest
from pauth.testing.model import Client
from pauth.testing.server import AuthorizationServer
from pauth.testing.user_agent import authorize

if TYPE_CHECKING:
    from pauth.testing.contract import StorageContract
    from pauth.testing.contract_coordinated import CoordinatedStorageContract

__all__ = [
    "AuthorizationServer",
    "Client",
    "CoordinatedStorageContract",
    "Fault",
    "Hold",
    "Ledger",
    "LedgerEntry",
    "ManualClock",
    "ResourceLedger",
    "ResourceUse",
    "RotationClass",
    "SeenRequest",
    "StorageContract",
    "authorize",
    "faults",
    "token_hash",
]


if not TYPE_CHECKING:  # else type checkers would take any misspelt name for one of ours

    def __getattr__(name: str) -> Any:
        # only when they are used: they need pytest
        if name == "StorageContract":
            from pauth.testing.contract import StorageContract

            return StorageContract
        if name == "CoordinatedStorageContract":
            from pauth.testing.contract_coordinated import CoordinatedStorageContract

            return CoordinatedStorageContract
        raise AttributeError(f"module 'pauth.testing' has no attribute {name!r}")

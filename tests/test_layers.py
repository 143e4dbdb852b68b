"""Who may import whom (docs/architecture.md). Every module of pauth stands in one room; a new one must be placed here to pass."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import pauth.errors

PACKAGE = Path(pauth.errors.__file__).parent

LEAVES = frozenset({"pauth.errors", "pauth.secret", "pauth.clock", "pauth.failpoints", "pauth.locks", "pauth.version"})
"""They import nothing of pauth and may be imported by all."""


@dataclass(frozen=True)
class Room:
    """What the modules of a room may import, besides their own room, the leaves and the standard library."""

    pauth: frozenset[str] = frozenset()
    """Modules or whole rooms (their prefix)."""

    libraries: frozenset[str] = frozenset()
    forbidden: frozenset[str] = field(default_factory=frozenset[str])
    """Parts of the standard library."""


CONCURRENCY_AND_FILES = frozenset(
    {"anyio", "asyncio", "http", "io", "logging", "os", "pathlib", "queue", "random", "secrets", "select", "shutil", "signal"}
)
IO = CONCURRENCY_AND_FILES | {"socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib.request", "uuid"}


def room(*names: str, libraries: str = "", forbidden: frozenset[str] = frozenset()) -> Room:
    return Room(frozenset(names), frozenset(libraries.split()), forbidden)


# The longest prefix that fits a module is its room.
ROOMS = {
    "pauth": room("pauth.client", "pauth.core", "pauth.providers", "pauth.refresh", "pauth.storage", "pauth.sync"),  # each only when its name is used
    "pauth.__main__": room("pauth.cli"),
    "pauth.errors": room(),
    "pauth.secret": room(),
    "pauth.clock": room(),
    "pauth.failpoints": room(),
    "pauth.locks": room(),
    "pauth.version": room(),
    "pauth.events": room(),
    # OAuth without I/O: time, randomness and network are arguments.
    "pauth.core": room(libraries="cryptography joserfc orjson", forbidden=IO),
    "pauth.providers": room("pauth.core", forbidden=IO),
    # Bytes, keys, versions. It knows nothing of OAuth. One driver module per library.
    "pauth.storage": room(libraries="anyio"),
    "pauth.storage.keys": room("pauth.storage", libraries="cryptography"),
    "pauth.storage.codec": room("pauth.storage", libraries="cryptography"),
    "pauth.storage.fernet": room("pauth.storage", libraries="cryptography"),
    "pauth.storage.payload": room("pauth.storage", libraries="orjson"),
    "pauth.storage.database": room("pauth.storage", libraries="sqlalchemy"),
    "pauth.storage.sql": room("pauth.storage", libraries="psycopg sqlalchemy"),  # a dialect's own library is imported by name, where it is chosen
    "pauth.storage.redis": room("pauth.storage", libraries="redis"),
    # The one importer of aiohttp on the core path. It knows requests and responses, not OAuth.
    "pauth.transport": room("pauth.core.wire", "pauth.core.urls", libraries="aiohttp yarl"),
    # Tokens and stores, not HTTP: the request is a callable handed in. Of the stores it knows the protocol, not the drivers.
    "pauth.refresh": room(
        "pauth.core.quirks", "pauth.core.token", "pauth.events", "pauth.storage.base", "pauth.storage.identity", "pauth.storage.journal"
    ),
    # One server's metadata, keys and endpoints.
    "pauth.server": room("pauth.core", "pauth.providers", "pauth.refresh.flight", "pauth.transport"),
    "pauth.login": room("pauth.core.token"),
    "pauth.device_login": room("pauth.core", "pauth.login", "pauth.refresh", "pauth.server", "pauth.storage.base"),
    # Tokens of other libraries, as pauth stores them.
    "pauth.importers": room("pauth.core.token", "pauth.refresh.stored", "pauth.storage"),
    "pauth.importers.flask_dance": room("pauth.core.token", "pauth.importers", "pauth.storage", libraries="sqlalchemy"),
    "pauth.client": room(
        "pauth.core",
        "pauth.device_login",
        "pauth.events",
        "pauth.login",
        "pauth.providers",
        "pauth.refresh",
        "pauth.server",
        "pauth.storage",
        "pauth.transport",
        libraries="platformdirs",
    ),
    # The blocking face of what there is to await.
    "pauth.sync": room(
        "pauth.client", "pauth.core", "pauth.login", "pauth.events", "pauth.importers", "pauth.providers", "pauth.refresh", "pauth.storage"
    ),
    # Other libraries, a module each; what stands in modules with an underscore, and needs none, is common to several.
    "pauth.integrations": room("pauth.client", "pauth.core", "pauth.storage.keys", libraries="cryptography"),
    "pauth.integrations.aiohttp": room("pauth.integrations"),
    "pauth.integrations._aiohttp_client": room("pauth.integrations", libraries="aiohttp yarl"),
    "pauth.integrations._aiohttp_web": room("pauth.core", "pauth.integrations", libraries="aiohttp multidict yarl"),
    "pauth.integrations.fastapi": room("pauth.core", "pauth.integrations", libraries="fastapi"),
    "pauth.integrations.httpx": room("pauth.integrations", libraries="httpx"),
    "pauth.integrations.opentelemetry": room("pauth.events", libraries="opentelemetry"),
    "pauth.integrations.requests": room("pauth.integrations", libraries="requests"),
    # Nobody imports these, but the command line's demo runs the double.
    "pauth.testing": room("pauth.client", "pauth.core", "pauth.providers", "pauth.storage", libraries="aiohttp joserfc pytest yarl"),
    "pauth.cli": room("pauth", libraries="aiohttp anyio click keyring platformdirs rich"),
}


@dataclass(frozen=True)
class Import:
    importer: str
    imported: str
    line: int


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(module: str, source: str, *, is_package: bool = False) -> Iterator[Import]:
    """Every import statement, also those inside functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                parents = parents[: len(parents) - node.level + is_package]
                base = ".".join([*parents, *([base] if base else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield Import(module, whole if whole in MODULES else base, node.lineno)


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(f"{prefix}.")


def room_of(module: str) -> str | None:
    # "pauth" is the package's own __init__ only: a module beside it must be placed by name
    fitting = [name for name in ROOMS if (within(module, name) if name != "pauth" else module == name)]
    return max(fitting, key=len, default=None)


def violation(found: Import) -> str | None:
    home = room_of(found.importer)
    if home is None:
        return f"{found.importer} stands in no room; place it in ROOMS"
    rules = ROOMS[home]
    top = found.imported.partition(".")[0]
    where = f"{found.importer}:{found.line} imports {found.imported}"
    if top == "pauth":
        if found.importer in LEAVES:
            return f"{where}, but a leaf imports nothing of pauth"
        allowed = found.imported in LEAVES or within(found.imported, home) or any(within(found.imported, name) for name in rules.pauth)
        return None if allowed and (found.imported != "pauth" or home == "pauth.cli") else f"{where}, which its room {home} may not"
    if top in sys.stdlib_module_names:
        return f"{where}, but {home} does no I/O" if any(within(found.imported, name) for name in rules.forbidden) else None
    return None if top in rules.libraries else f"{where}, a library its room {home} may not use"


@pytest.mark.parametrize("module", MODULES)
def test_imports(module: str) -> None:
    path = MODULES[module]
    found = list(imports_of(module, path.read_text(encoding="utf-8"), is_package=path.name == "__init__.py"))
    assert room_of(module) is not None, f"{module} stands in no room; place it in ROOMS"
    assert [problem for each in found if (problem := violation(each))] == []


def test_no_room_is_empty() -> None:
    assert [name for name in ROOMS if not any(within(module, name) for module in MODULES)] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pauth.core.token", "import asyncio"),
        ("pauth.core.token", "from time import time"),
        ("pauth.core.token", "def f():\n    import urllib.request"),
        ("pauth.core.token", "from pauth.storage.base import Record"),
        ("pauth.core.token", "from ..storage import base"),
        ("pauth.core.token", "from pauth import Token"),
        ("pauth.core.token", "import aiohttp"),
        ("pauth.storage.memory", "from pauth.core.token import Token"),
        ("pauth.storage.memory", "import sqlalchemy"),
        ("pauth.refresh.flight", "from pauth.transport import Transport"),
        ("pauth.refresh.flight", "from pauth.storage.memory import MemoryTokenStorage"),
        ("pauth.refresh.saving", "from pauth.storage.codec import Codec"),
        ("pauth.refresh.failures", "from pauth.core.grants import can_refresh"),
        ("pauth.client", "import aiohttp"),
        ("pauth.client", "from pauth.testing import ManualClock"),
        ("pauth.errors", "from pauth.secret import Secret"),
        ("pauth.events.kinds", "from pauth.core.token import Token"),
        ("pauth.a_new_module", "import json"),
    ],
)
def test_the_rules_refuse(module: str, source: str) -> None:
    (found,) = imports_of(module, source)
    assert violation(found) is not None


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pauth.core.token", "from pauth.errors import PAuthError"),
        ("pauth.core.token", "from . import wire"),
        ("pauth.core.token", "from urllib.parse import quote"),
        ("pauth.client", "from pauth.storage.base import RecordKey"),
        ("pauth.cli.demo", "from pauth import OAuth2Client"),
    ],
)
def test_the_rules_allow(module: str, source: str) -> None:
    (found,) = imports_of(module, source)
    assert violation(found) is None

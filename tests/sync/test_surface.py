"""The sync face is the async one: every public async name has its twin, with the same signature and the same words."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest

import pauth
import pauth.importers
import pauth.storage
import pauth.sync
from pauth import OAuth2Client, SyncOAuth2Client, SyncTokenStorage
from pauth.refresh.refresher import TokenRefresher
from pauth.storage.base import CoordinatedTokenStorage
from pauth.sync import SyncTokenRefresher
from tools.gen_sync import Generator

TWINS: dict[type[Any], type[Any]] = {OAuth2Client: SyncOAuth2Client, CoordinatedTokenStorage: SyncTokenStorage, TokenRefresher: SyncTokenRefresher}
MODULES = (pauth, pauth.storage, pauth.importers)

FACELESS = {
    "AsyncTokenStorage": "it is what users write",
    "CoordinatedTokenStorage": "SyncTokenStorage is its face",
    "DatabaseTokenStorage": "a CoordinatedTokenStorage",
    "EncryptedFileStorage": "a CoordinatedTokenStorage",
    "KeyProvider": "it is what users write",
    "MemoryTokenStorage": "a CoordinatedTokenStorage",
    "OAuth2Client": "SyncOAuth2Client is its face",
    "RedisTokenStorage": "a CoordinatedTokenStorage",
    "TokenRefresher": "SyncTokenRefresher is its face",
    "Watch": "it calls back in the event loop",
    "WatchableTokenStorage": "the same",
    "from_flask_dance": "import_tokens takes what it gives",
    "iter_expiring": "a method of SyncTokenStorage",
    "iter_users": "a method of SyncTokenStorage",
}
"""Public names with something to await that have no twin of their own name, and why."""


def is_async(value: object) -> bool:
    return inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value)


def awaited(value: object) -> bool:
    """Whether a public object has anything that is awaited."""
    if isinstance(value, type):
        return any(is_async(member) for name, member in inspect.getmembers(value) if not name.startswith("_"))
    return is_async(value)


def members(cls: type[Any]) -> Iterator[tuple[str, Any]]:
    for name, member in inspect.getmembers_static(cls):
        if not name.startswith("_") and isinstance(member, FunctionType | property):
            yield name, member


PAIRS = [
    pytest.param(member, inspect.getattr_static(twin, "close" if name == "aclose" else name, None), id=f"{cls.__name__}.{name}")
    for cls, twin in TWINS.items()
    for name, member in members(cls)
]
FUNCTIONS = sorted(name for name in pauth.sync.__all__ if isinstance(getattr(pauth.sync, name), FunctionType))


def described(function: Any) -> tuple[str, str | None]:
    return str(inspect.signature(function)), inspect.getdoc(function)


@pytest.mark.parametrize(("member", "twin"), PAIRS)
def test_every_member_has_a_twin_with_its_signature_and_its_docstring(member: Any, twin: Any) -> None:
    if isinstance(member, property):
        assert isinstance(twin, property)
        assert described(twin.fget) == described(member.fget)
    else:
        assert not is_async(twin)
        assert described(twin) == described(member)


def test_the_twins_have_no_other_public_members() -> None:
    for cls, twin in TWINS.items():
        extra = {name for name, _ in members(twin)} - {"close" if name == "aclose" else name for name, _ in members(cls)}
        assert extra == ({"iter_users", "iter_expiring"} if twin is SyncTokenStorage else set())


@pytest.mark.parametrize("name", ["iter_users", "iter_expiring"])
def test_a_listing_is_a_method_with_the_functions_arguments_and_docstring(name: str) -> None:
    function, method = getattr(pauth.storage, name), getattr(SyncTokenStorage, name)
    assert inspect.getdoc(method) == inspect.getdoc(function)
    arguments = list(inspect.signature(function).parameters.values())[1:]
    assert list(inspect.signature(method).parameters.values())[1:] == arguments


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_the_signature_and_the_docstring_of_those_they_wait_for(name: str) -> None:
    twin = getattr(pauth.sync, name)
    (function,) = (getattr(module, name) for module in MODULES if name in module.__all__)
    signature, doc = described(twin)
    assert (signature.replace("CoordinatedTokenStorage | SyncTokenStorage", "CoordinatedTokenStorage"), doc) == described(function)


@pytest.mark.parametrize(("cls", "default"), [(OAuth2Client, 60.0), (TokenRefresher, None)])
def test_constructors_have_a_deadline_more(cls: type[Any], default: float | None) -> None:
    parameters = list(inspect.signature(cls).parameters.values())
    *same, deadline = inspect.signature(TWINS[cls]).parameters.values()
    assert [str(each).replace("SyncOAuth2Client", "KeepsFresh") for each in same] == [str(each) for each in parameters]
    assert (deadline.name, deadline.default, deadline.kind) == ("deadline", default, inspect.Parameter.KEYWORD_ONLY)


def test_a_class_says_what_its_twin_says() -> None:
    """But for its deadline, and how it is closed."""
    words, own_words = (set((cls.__doc__ or "").splitlines()) for cls in (OAuth2Client, SyncOAuth2Client))
    documented, closing = sorted(own_words - words)
    assert documented.strip().startswith(":param deadline: seconds")
    assert closing.endswith("close it with :meth:`close` or ``with``.")


def test_no_public_async_name_is_without_a_face() -> None:
    """A new one gets an entry in tools/gen_sync.py, or a reason here."""
    names = {name: getattr(module, name) for module in MODULES for name in module.__all__}
    found = {name for name, value in names.items() if awaited(value)}
    assert found - set(pauth.sync.__all__) == set(FACELESS)


def test_the_module_lists_all_that_it_has() -> None:
    """Though it loads them when they are first used."""
    assert set(pauth.sync.__all__) <= set(dir(pauth.sync))


def test_the_generated_files_are_what_their_sources_say() -> None:
    assert Generator().problems() == []

"""The package's names, and that naming them loads nothing that is not there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pauth.importers


def test_all_names_resolve() -> None:
    for name in pauth.importers.__all__:
        assert getattr(pauth.importers, name) is not None
    assert set(pauth.importers.__all__) <= set(dir(pauth.importers))


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'from_oauthlib'"):
        _ = pauth.importers.from_oauthlib


def test_reading_dicts_loads_no_library() -> None:
    libraries = "{'sqlalchemy', 'aiosqlite', 'aiohttp', 'anyio', 'cryptography', 'asyncio'}"
    program = f"import sys; from pauth.importers import from_authlib, from_msal; print({libraries} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip() == "set()"

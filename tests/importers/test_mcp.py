"""Token files of the MCP SDK and of FastMCP."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pauth.importers import from_mcp
from tests.importers.kit import NOW, check_hostile, members, only, reason, said, vector

FILES: dict[str, Any] = vector("mcp")
BARE: dict[str, Any] = FILES["a token of the SDK"]


def a_file(group: str, part: str) -> dict[str, Any]:
    (content,) = (content for name, content in FILES[group].items() if part in name)
    return dict(content)


def test_a_token_of_the_sdk() -> None:
    expected = {
        "access_token": "CANARY-fm-access-3",
        "token_type": "Bearer",
        "refresh_token": "CANARY-fm-refresh-3",
        "scope": "mcp tools",
        "scope_assumed": False,
        "issued_at": 0.0,
    }
    assert said(only(from_mcp({"alice": BARE}))) == expected  # since when it lives nobody knows: a refresh is tried
    assert said(only(from_mcp({"alice": BARE}, saved_at=NOW))) == {**expected, "issued_at": NOW, "expires_at": NOW + 3600}


def test_a_file_of_fastmcp() -> None:
    file = a_file("files of fastmcp", "_tokens-")
    token = only(from_mcp({"alice": file}, saved_at=7.0))
    written = datetime.fromisoformat(file["created_at"]).timestamp()
    assert (token.issued_at, token.expires_at) == (written, written + 3600)
    expiry = a_file("files of fastmcp", "/S_https_mcp_example_mcp_token_expiry-")["value"]["expires_at"]
    assert token.expires_at == pytest.approx(expiry, abs=1)  # as FastMCP itself has it, in another file
    assert token.access_token.reveal() == "CANARY-fm-access-1"
    assert token.refresh_token is not None


def test_a_file_of_fastmcp_2_12() -> None:
    file = a_file("files of fastmcp 2.12", "https_mcp_example")
    token = only(from_mcp({"alice": file}))
    assert token.access_token.reveal() == "CANARY-fo-access-1"
    assert token.expires_at == datetime.fromisoformat(file["data"]["expires_at"]).timestamp()
    assert only(from_mcp({"alice": file["data"]})).expires_at == token.expires_at  # as 2.6 to 2.10 wrote it
    other = only(from_mcp({"alice": a_file("files of fastmcp 2.12", "https_other_example")}))
    assert (other.expires_at, other.issued_at, other.refresh_token) == (None, NOW + 0.25, None)


@pytest.mark.parametrize("time", [{"expires_at": NOW + 60}, {"issued_at": NOW - 3540}, {"created_at": "2027-01-15T07:01:00+00:00"}])
@pytest.mark.parametrize("inside", [True, False])
def test_files_of_other_programs(time: dict[str, Any], *, inside: bool) -> None:
    file = {"tokens": {**BARE, **time}} if inside else {"tokens": BARE, **time}
    file["client_info"] = {"client_id": "client-1"}
    token = only(from_mcp({"alice": file}))
    assert (token.issued_at, token.expires_at) == (NOW - 3540, NOW + 60)


def test_a_file_that_is_encrypted_says_so() -> None:
    assert "encrypted by py-key-value" in reason(from_mcp({"alice": a_file("encrypted files of fastmcp", "_tokens-")}))


def test_a_file_of_something_else_is_a_problem() -> None:
    assert "neither an access token nor a refresh token" in reason(
        from_mcp({"alice": a_file("files of fastmcp", "/S_https_mcp_example_mcp_client_info")})
    )


def test_files_in_files_in_files_end() -> None:
    file: dict[str, Any] = {"access_token": "CANARY"}
    for _ in range(5):
        file = {"data": file}
    assert "neither" in reason(from_mcp({"alice": file}))


_NAMES = ("access_token", "refresh_token", "expires_in", "expires_at", "created_at", "timestamp", "issued_at", "token_type")
_TOKEN = members(*_NAMES)


@given(st.lists(_TOKEN | st.dictionaries(st.sampled_from(["data", "value", "tokens", "token_payload", *_NAMES]), _TOKEN, max_size=3), max_size=3))
def test_hostile_files(files: list[Any]) -> None:
    assert len(check_hostile(from_mcp(((f"user {number}", file) for number, file in enumerate(files)), saved_at=NOW))) == len(files)

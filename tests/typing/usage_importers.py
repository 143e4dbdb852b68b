"""How users write against ``pauth.importers``, for the type checkers. It never runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, assert_type

from pauth import BaseTokenStorage, MemoryTokenStorage, Secret, Token
from pauth.importers import (
    Entry,
    FoundToken,
    ImportReport,
    Problem,
    Skipped,
    from_authlib,
    from_flask_dance,
    from_google_auth,
    from_mcp,
    from_msal,
    from_requests_oauthlib,
    import_tokens,
)


async def sources(by_user: dict[str, dict[str, Any]], texts: dict[str, str], rows: list[tuple[int, str]]) -> None:
    assert_type(from_authlib(by_user), Iterator[Entry])
    assert_type(from_authlib(rows, keep=["instance_url"]), Iterator[Entry])
    assert_type(from_requests_oauthlib((user, token) for user, token in by_user.items()), Iterator[Entry])
    assert_type(from_google_auth(texts, client_id="id"), Iterator[Entry])
    assert_type(from_mcp(texts, saved_at=1.0), Iterator[Entry])
    assert_type(from_msal("{}", client_id="id", user_id="sub"), Iterator[Entry])
    assert_type(from_flask_dance(Path("app.db"), provider="github"), AsyncGenerator[Entry, None])
    from_authlib(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    from_msal("{}", client_id="id", user_id="email")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def imports(own: BaseTokenStorage) -> None:
    mine = [FoundToken("row 1", "alice", Token(Secret("CANARY")))]
    assert_type(await import_tokens(mine, own, namespace="n", dry_run=True), ImportReport)
    report = await import_tokens(from_flask_dance("app.db", provider="github"), MemoryTokenStorage(), namespace="n", overwrite=True)
    assert_type(report.written, tuple[str, ...])
    assert_type(report.problems, tuple[Problem, ...])
    assert_type(report.skipped, tuple[Skipped, ...])
    await import_tokens(mine, own)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

"""What the server saw, in order: one entry a request. Tokens appear as SHA-256 hashes only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Ledger", "LedgerEntry", "ResourceLedger", "ResourceUse", "token_hash"]


def token_hash(token: str) -> str:
    """The name a token has in the ledgers: the hexadecimal SHA-256 of its UTF-8 text."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One request to the authorization server."""

    at: float
    """When it was applied, or refused: seconds since the Unix epoch on the server's clock."""

    endpoint: str
    """``authorize``, ``token``, ``userinfo``, ``revoke``, ``jwks``, ``metadata``, ``device_authorization`` or ``device`` (the page of that grant)."""

    client_id: str | None = None
    """The client the request *claims* to come from; read it together with :attr:`outcome`."""

    grant_type: str | None = None

    outcome: str = "ok"
    """``ok``, the OAuth error code answered, ``consent`` (a page was shown to the user) or ``fault:`` and the fault's name, if a
    scripted fault kept the client from seeing the true answer. A fault's request was applied if the entry has an :attr:`access_token_out`."""

    refresh_token_in: str | None = None
    """Hash of the refresh token presented, to be exchanged or to be revoked."""

    refresh_token_out: str | None = None
    """Hash of the refresh token issued, if a new one was."""

    access_token_out: str | None = None
    """Hash of the access token issued."""

    user: str | None = None


@dataclass(frozen=True, slots=True)
class ResourceUse:
    """One use of an access token, at the protected resource or at the userinfo endpoint."""

    at: float
    """Seconds since the Unix epoch on the server's clock."""

    endpoint: str
    """``resource`` or ``userinfo``."""

    outcome: str
    """``ok``, ``invalid_token``, ``insufficient_scope``, ``invalid_request``, ``no_token`` or ``fault:`` and the fault's name."""

    access_token: str | None = None
    """Hash of the token presented."""

    client_id: str | None = None
    """The client it was issued to, if this server issued it."""

    user: str | None = None
    """The user it was issued for, if any."""


_Entry = TypeVar("_Entry")


class _AppendOnly(Generic[_Entry]):
    """A list to the reader, which only grows."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._entries)} entries>"

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[_Entry]:
        return iter(tuple(self._entries))

    def __getitem__(self, index: int) -> _Entry:
        return self._entries[index]

    def append(self, entry: _Entry) -> None:
        """Add ``entry``; the server's business."""
        self._entries.append(entry)


class Ledger(_AppendOnly[LedgerEntry]):
    """Every request the authorization server answered, oldest first."""

    def select(
        self,
        *,
        endpoint: str | None = None,
        grant_type: str | None = None,
        outcome: str | None = None,
        client_id: str | None = None,
        user: str | None = None,
        where: Callable[[LedgerEntry], bool] | None = None,
    ) -> list[LedgerEntry]:
        """The entries that have all the values given; ``None`` stands for any value."""
        return [
            entry
            for entry in self
            if endpoint in {None, entry.endpoint}
            and grant_type in {None, entry.grant_type}
            and outcome in {None, entry.outcome}
            and client_id in {None, entry.client_id}
            and user in {None, entry.user}
            and (where is None or where(entry))
        ]

    def count(
        self,
        *,
        endpoint: str | None = None,
        grant_type: str | None = None,
        outcome: str | None = None,
        client_id: str | None = None,
        user: str | None = None,
        where: Callable[[LedgerEntry], bool] | None = None,
    ) -> int:
        """How many entries :meth:`select` gives."""
        return len(self.select(endpoint=endpoint, grant_type=grant_type, outcome=outcome, client_id=client_id, user=user, where=where))


class ResourceLedger(_AppendOnly[ResourceUse]):
    """Every use of an access token, oldest first."""

    def select(self, *, endpoint: str | None = None, outcome: str | None = None, user: str | None = None) -> list[ResourceUse]:
        """The uses that have all the values given; ``None`` stands for any value."""
        return [use for use in self if endpoint in {None, use.endpoint} and outcome in {None, use.outcome} and user in {None, use.user}]

    def count(self, *, endpoint: str | None = None, outcome: str | None = None, user: str | None = None) -> int:
        """How many uses :meth:`select` gives."""
        return len(self.select(endpoint=endpoint, outcome=outcome, user=user))

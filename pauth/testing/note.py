"""What is noted about a request while it is being answered; it becomes a ledger entry."""

from __future__ import annotations

from dataclasses import dataclass

from pauth.testing.authentication import claimed_client_id
from pauth.testing.ledger import LedgerEntry, ResourceUse, token_hash
from pauth.testing.messages import SeenRequest
from pauth.testing.model import State

__all__ = ["Note", "bearer_token", "first_note"]


@dataclass(slots=True)
class Note:
    """The members of :class:`~pauth.testing.LedgerEntry`, not yet final. Tokens as hashes."""

    client_id: str | None = None
    grant_type: str | None = None
    outcome: str = "ok"
    refresh_token_in: str | None = None
    refresh_token_out: str | None = None
    access_token_in: str | None = None
    access_token_out: str | None = None
    user: str | None = None

    def entry(self, endpoint: str, at: float) -> LedgerEntry:
        """The entry for the server's ledger."""
        return LedgerEntry(
            at=at,
            endpoint=endpoint,
            client_id=self.client_id,
            grant_type=self.grant_type,
            outcome=self.outcome,
            refresh_token_in=self.refresh_token_in,
            refresh_token_out=self.refresh_token_out,
            access_token_out=self.access_token_out,
            user=self.user,
        )

    def use(self, endpoint: str, at: float) -> ResourceUse:
        """The entry for the ledger of access-token uses."""
        return ResourceUse(at, endpoint, self.outcome, self.access_token_in, self.client_id, self.user)


def bearer_token(request: SeenRequest) -> str | None:
    """The token of an ``Authorization: Bearer`` header (RFC 6750 section 2.1)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" and token else None


def first_note(request: SeenRequest, state: State) -> Note:
    """What the request says of itself, before anything is checked."""
    if request.endpoint in {"userinfo", "resource"}:
        presented = bearer_token(request)
        known = None if presented is None else state.find_access_token(presented)
        hashed = None if presented is None else token_hash(presented)
        return Note(access_token_in=hashed, client_id=known.client_id if known else None, user=known.user if known else None)
    note = Note(grant_type=request.grant_type)
    if request.endpoint in {"token", "revoke", "device_authorization"}:
        note.client_id = claimed_client_id(request)
        name = request.params.get("refresh_token" if request.endpoint == "token" else "token", "")
        known_refresh_token = state.find_refresh_token(name)
        if known_refresh_token is not None:
            note.user = known_refresh_token.grant.user
        if known_refresh_token is not None or (name and request.grant_type == "refresh_token"):
            note.refresh_token_in = token_hash(name)
    return note

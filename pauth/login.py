"""A completed login."""

from __future__ import annotations

from dataclasses import dataclass

from pauth.core.token import Token

__all__ = ["Login"]


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    """A completed login: the tokens are stored."""

    user_id: str
    """The user they are stored under, for :meth:`OAuth2Client.get_token`."""

    token: Token

    def __repr__(self) -> str:
        return f"<Login {self.token!r}>"

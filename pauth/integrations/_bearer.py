"""A user's token on requests to resource servers: where it goes and when it is renewed. The same for every HTTP library; no I/O (RQ-1 to RQ-6)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, Protocol

from pauth.integrations._challenges import bearer_error
from pauth.integrations._origins import Origins
from pauth.secret import Secret

__all__ = ["MAX_HOPELESS", "AsyncTokenSource", "Bearer", "SyncTokenSource", "UsableToken", "hopeless"]

MAX_HOPELESS: Final = 1024
"""How many of them are remembered."""

hopeless: Final[OrderedDict[tuple[str, str], None]] = OrderedDict()
"""Tokens (user, version) of this process that were refused though they were new. Not of one object: those are often made for a single request."""


class UsableToken(Protocol):
    """What is needed of a :class:`pauth.Token`."""

    @property
    def version(self) -> str:
        """Tells this token from its predecessor and its successor."""
        ...

    def auth_headers(self) -> dict[str, str]:
        """The ``Authorization`` header that presents it."""
        ...


class AsyncTokenSource(Protocol):
    """Where tokens come from: :class:`pauth.OAuth2Client`, or anything with these two methods."""

    async def get_token(self, user_id: str, /) -> UsableToken:
        """A valid token of the user."""
        ...

    async def refresh(self, user_id: str, /, *, if_version: str | None = None) -> UsableToken:
        """A newer token than the one with this version: refreshed, or the one that somebody else has got by a refresh meanwhile."""
        ...


class SyncTokenSource(Protocol):
    """The same without ``await``: :class:`pauth.SyncOAuth2Client`, or anything with these two methods."""

    def get_token(self, user_id: str, /) -> UsableToken:
        """A valid token of the user."""
        ...

    def refresh(self, user_id: str, /, *, if_version: str | None = None) -> UsableToken:
        """A newer token than the one with this version."""
        ...


class Bearer:
    """What one user's requests have in common.

    :param origins: the origins the token is for, as :func:`conceal_origins` gives them; it is sent to no other.
    :param refresh_on_any_401: take any 401 for a refused token, not only one that says ``invalid_token``.
    :raises ConfigurationError: an origin is unusable.
    """

    __slots__ = ("_origins", "_refresh_on_any_401", "user_id")

    user_id: str

    def __init__(self, user_id: str, origins: tuple[Secret, ...], *, refresh_on_any_401: bool, allow_insecure_http: bool) -> None:
        self.user_id = user_id
        self._origins = Origins(origins, allow_insecure_http=allow_insecure_http)
        self._refresh_on_any_401 = refresh_on_any_401

    @property
    def origins(self) -> Origins:
        """Where the token may go."""
        return self._origins

    def wants_refresh(self, token: UsableToken, status: int, challenges: Iterable[str]) -> bool:
        """Whether the answer to a request with ``token`` calls for a newer one (RFC 6750 section 3.1; RQ-4).

        403 never does, whatever it says: a refreshed token has no more scopes. Nor does the refusal of a token that came from a refresh which a
        refusal had asked for: the server would be asked to refresh with every request (P10).
        """
        if status != 401:
            if hopeless:
                hopeless.pop((self.user_id, token.version), None)
            return False
        return (self._refresh_on_any_401 or bearer_error(challenges) == "invalid_token") and (self.user_id, token.version) not in hopeless

    def was_refused_again(self, token: UsableToken, status: int) -> None:
        """Take note of the answer to the second attempt, with the refreshed ``token``."""
        if status == 401:
            hopeless[self.user_id, token.version] = None
            while len(hopeless) > MAX_HOPELESS:
                hopeless.popitem(last=False)

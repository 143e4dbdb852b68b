"""Who is logged in in a browser, in a sealed cookie, and the token that proves a form to be this site's own (WS-2, WS-3, WS-5)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pauth.clock import Clock
from pauth.integrations._cookies import CookieSealer, set_cookie
from pauth.secret import Secret

__all__ = ["Sessions", "Visitor"]

_FORM_LIFETIME: Final = 86_400.0


@dataclass(frozen=True, slots=True, repr=False)
class Visitor:
    """Somebody whom this browser may act for."""

    user_id: str
    form_key: Secret
    """What the tokens of their forms are bound to: the id of the browser's session, or the user's own."""


class Sessions:
    """Sessions of one login, with nothing kept on the server. The cookie is their only proof: who has it is logged in until it expires.

    :param name: of the cookie.
    :param purpose: separates them from the sessions of other logins under the same key.
    :param lifetime: seconds from the login.
    """

    def __init__(self, sealer: CookieSealer, *, name: str, purpose: str, lifetime: float, secure: bool, clock: Clock) -> None:
        self._sealer = sealer
        self._name = name
        self._session, self._form = f"session\n{purpose}", f"form\n{purpose}"
        self._lifetime = lifetime
        self._secure = secure
        self._clock = clock

    def begin(self, user_id: str) -> str:
        """The ``Set-Cookie`` value of a new session, with an id that nobody knew before (WS-3)."""
        sealed = self._seal(self._session, {"id": secrets.token_urlsafe(32), "user": user_id}, self._lifetime)
        return set_cookie(self._name, sealed, max_age=int(self._lifetime), secure=self._secure)

    def find(self, cookies: Mapping[str, str]) -> Visitor | None:
        """Who is logged in in the browser with these cookies."""
        content = self._open(self._session, cookies.get(self._name, ""))
        return None if content is None else Visitor(content["user"], Secret(content["id"]))

    def form_token(self, visitor: Visitor) -> str:
        """A token for a form; each time another text, so that compressed pages tell nothing of it."""
        return self._seal(self._form, {"key": visitor.form_key.reveal()}, _FORM_LIFETIME)

    def is_form_token(self, text: str, visitor: Visitor) -> bool:
        """Whether :meth:`form_token` gave ``text`` to this visitor, within a day."""
        content = self._open(self._form, text)
        return content is not None and Secret(content["key"]) == visitor.form_key

    def _seal(self, purpose: str, content: dict[str, Any], lifetime: float) -> str:
        return self._sealer.seal(purpose, {**content, "until": self._clock.time() + lifetime})

    def _open(self, purpose: str, text: str) -> dict[str, Any] | None:
        content = self._sealer.open(purpose, text)
        return content if content is not None and self._clock.time() < content["until"] else None

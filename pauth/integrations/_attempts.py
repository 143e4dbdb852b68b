"""Logins that were started in a browser and are not over: a sealed cookie for each, so that tabs do not disturb each other (WS-1, AX-2, AX-5)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pauth.clock import Clock
from pauth.core.authorization import MAX_LIFETIME
from pauth.integrations._cookies import CookieSealer, set_cookie
from pauth.secret import Secret

__all__ = ["Attempt", "Attempts", "new_secret"]

_MAX_ATTEMPTS: Final = 5
_MAX_BYTES: Final = 3500
"""Of all attempts of a browser, names included: browsers and servers take 4 KiB of cookies or little more."""


@dataclass(frozen=True, slots=True, repr=False)
class Attempt:
    """A login that is under way."""

    state: Secret
    secret: Secret
    """What only this browser has, and the callback is bound to: the client's ``session_id``."""

    next_path: str
    """Where the browser goes in the end."""

    user_id: str | None
    """Whose account it is for, where the application has said so."""

    until: float


def new_secret() -> Secret:
    """256 random bits."""
    return Secret(secrets.token_urlsafe(32))


class Attempts:
    """The attempts of one login.

    Their cookies live as long as a pending login can, an hour; whether a callback still comes in time is for the client to say.

    :param name: what the cookies' names begin with; each goes on with a hash of its ``state``.
    :param purpose: separates them from what else is sealed under the same key.
    :param same_site: ``None`` where callbacks are form posts, which come from another site (AX-9).
    """

    def __init__(self, sealer: CookieSealer, *, name: str, purpose: str, secure: bool, same_site: str, clock: Clock) -> None:
        self._sealer = sealer
        self._prefix = f"{name}-"
        self._purpose = f"attempt\n{purpose}"
        self._secure = secure
        self._same_site = same_site
        self._clock = clock

    def begin(self, *, state: Secret, secret: Secret, next_path: str, user_id: str | None) -> tuple[str, int]:
        """The ``Set-Cookie`` value of a new attempt, and how many bytes the browser has to send for it."""
        until = self._clock.time() + MAX_LIFETIME
        content = {"state": state.reveal(), "secret": secret.reveal(), "next": next_path, "user": user_id, "until": until}
        name, sealed = self._name(state), self._sealer.seal(self._purpose, content)
        return self._cookie(name, sealed, int(MAX_LIFETIME)), len(name) + len(sealed)

    def find(self, state: Secret, cookies: Mapping[str, str]) -> Attempt | None:
        """The attempt of this browser that has this ``state``."""
        attempt = self._open(cookies.get(self._name(state), ""))
        return attempt if attempt is not None and attempt.state == state else None

    def crowded_out(self, cookies: Mapping[str, str], *, room_for: int) -> tuple[list[Attempt], list[str]]:
        """The attempts, oldest first, that have to go to make room for a new one of ``room_for`` bytes.

        And the ``Set-Cookie`` values that remove them, and whatever else has such a name.
        """
        found = {name: (self._open(value), len(name) + len(value)) for name, value in cookies.items() if name.startswith(self._prefix)}
        removed = [name for name, (attempt, _) in found.items() if attempt is None]
        live = sorted(((attempt, size, name) for name, (attempt, size) in found.items() if attempt is not None), key=lambda each: each[0].until)
        gone: list[Attempt] = []
        while live and (len(live) >= _MAX_ATTEMPTS or room_for + sum(size for _, size, _ in live) > _MAX_BYTES):
            attempt, _, name = live.pop(0)
            gone.append(attempt)
            removed.append(name)
        return gone, [self._cookie(name, "", 0) for name in removed]

    def end(self, state: Secret) -> str:
        """The ``Set-Cookie`` value that removes an attempt."""
        return self._cookie(self._name(state), "", 0)

    def end_all(self, cookies: Mapping[str, str]) -> list[str]:
        """The ``Set-Cookie`` values that remove all of this browser."""
        return [self._cookie(name, "", 0) for name in cookies if name.startswith(self._prefix)]

    def _name(self, state: Secret) -> str:
        return self._prefix + hashlib.sha256(state.reveal().encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def _cookie(self, name: str, value: str, max_age: int) -> str:
        return set_cookie(name, value, max_age=max_age, secure=self._secure, same_site=self._same_site)

    def _open(self, text: str) -> Attempt | None:
        content = self._sealer.open(self._purpose, text)
        if content is None or content["until"] <= self._clock.time():
            return None
        return Attempt(Secret(content["state"]), Secret(content["secret"]), content["next"], content["user"], content["until"])

"""The device authorization grant (RFC 8628): its endpoint, the page where the user types the code, and the polls."""

from __future__ import annotations

import html
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from pauth.errors import ConfigurationError
from pauth.testing.authentication import authenticate
from pauth.testing.authorize_endpoint import parse_scope
from pauth.testing.ledger import token_hash
from pauth.testing.messages import Refusal, Reply, SeenRequest, html_page, html_reply, json_reply
from pauth.testing.model import Client, Issued, State
from pauth.testing.note import Note

__all__ = ["DEVICE_GRANT", "DeviceEndpoints"]

DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"

_ALPHABET: Final = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so that chance makes no words (section 6.1)."""

_USUAL_INTERVAL: Final = 5.0
_SLOWER_BY: Final = 5.0
_TOLERANCE: Final = 0.5
"""Seconds by which a poll may come early: one request takes longer on its way than another."""


@dataclass(slots=True, repr=False, eq=False)
class _Pending:
    """A login that waits for its user."""

    client: Client
    scope: tuple[str, ...]
    expires_at: float
    interval: float
    polled_at: float | None = None
    user: str | None = None
    """Who said yes."""

    granted: tuple[str, ...] = ()
    denied: bool = False
    spent: bool = False


class DeviceEndpoints:
    """What the server knows of logins on other devices.

    :param interval: seconds to demand between two polls; ``None`` demands the usual five and does not say so.
    :param lifetime: seconds a code lives.
    """

    def __init__(self, state: State, *, issuer: str, interval: float | None, lifetime: float) -> None:
        self._state = state
        self._verification_uri = f"{issuer}/device"
        self._interval = interval
        self._lifetime = lifetime
        self._by_device_code: dict[str, _Pending] = {}
        self._by_user_code: dict[str, _Pending] = {}

    def start(self, request: SeenRequest, note: Note, now: float) -> Reply:  # noqa: ARG002  # all endpoints have one signature
        """The device authorization endpoint (RFC 8628 section 3.1)."""
        params = request.check_form()
        client = authenticate(request, self._state.clients)
        if DEVICE_GRANT not in client.grant_types:
            raise Refusal("unauthorized_client", "the client may not use this grant type")
        pending = _Pending(client, parse_scope(params.get("scope")), now + self._lifetime, self._interval or _USUAL_INTERVAL)
        device_code = self._state.new_secret("device-code", client.client_id)
        letters = "".join(secrets.choice(_ALPHABET) for _ in range(8))
        user_code = f"{letters[:4]}-{letters[4:]}"
        self._by_device_code[token_hash(device_code)] = self._by_user_code[user_code] = pending
        document: dict[str, Any] = {
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": self._verification_uri,
            "verification_uri_complete": f"{self._verification_uri}?{urlencode({'user_code': user_code})}",
            "expires_in": int(self._lifetime),
        }
        if self._interval is not None:
            document["interval"] = self._interval
        return json_reply(document)

    def redeem(self, client: Client, device_code: str, now: float) -> Issued:
        """Answer a poll (RFC 8628 section 3.5).

        :raises Refusal: ``authorization_pending``, ``slow_down``, ``access_denied``, ``expired_token``, or ``invalid_grant``.
        """
        pending = self._by_device_code.get(token_hash(device_code))
        if pending is None or pending.client.client_id != client.client_id or pending.spent:
            raise Refusal("invalid_grant", "the device code is unknown, used already or belongs to another client")
        early = pending.polled_at is not None and now - pending.polled_at < pending.interval - _TOLERANCE
        pending.polled_at = now
        if now >= pending.expires_at:
            raise Refusal("expired_token", "the device code has expired")
        if early:
            pending.interval += _SLOWER_BY
            raise Refusal("slow_down", "the device code was asked for too soon")
        if pending.denied:
            raise Refusal("access_denied", "the user said no")
        if pending.user is None:
            raise Refusal("authorization_pending", "the user has not decided yet")
        pending.spent = True
        return self._state.grant(client, pending.user, pending.granted, now)

    def decide(self, user_code: str, *, user: str, scope: Collection[str] | None, deny: bool, now: float) -> None:
        """What the user of the other device decides. The code may be written as people write it: in small letters, without its hyphen.

        :raises ConfigurationError: nobody waits for this code.
        """
        pending = self._waiting(user_code, now)
        if pending is None:
            raise ConfigurationError("no device login waits for this user code: it is wrong, decided already, or has expired")
        if deny:
            pending.denied = True
        else:
            pending.user, pending.granted = user, tuple(each for each in pending.scope if scope is None or each in scope)

    def page(self, request: SeenRequest, note: Note, now: float) -> Reply:
        """Where the user goes: types the code (GET), then says who they are and decides (POST)."""
        try:
            return self._decided(request, note, now) if request.method == "POST" else self._shown(request, note, now)
        except Refusal as refusal:
            note.outcome = refusal.error
            return html_reply(html_page("Login failed", f'<h1>Login failed</h1>\n<p id="error">{refusal.error}: {refusal.description}</p>'), 400)

    def _shown(self, request: SeenRequest, note: Note, now: float) -> Reply:
        user_code = request.params.get("user_code")
        note.outcome = "consent"
        if user_code is None:
            box = '<p><label>The code on your device <input type="text" name="user_code" required></label> <button>Next</button></p>'
            return html_reply(html_page("Log a device in", f'<h1>Log a device in</h1>\n<form action="{self._verification_uri}">\n{box}\n</form>'))
        pending = self._waiting(user_code, now)
        if pending is None:
            raise Refusal("invalid_request", "no device waits for this code")
        note.client_id = pending.client.client_id
        boxes = "\n".join(
            f'<p><label><input type="checkbox" name="scope" value="{html.escape(each)}" checked> {html.escape(each)}</label></p>'
            for each in pending.scope
        )
        content = f"""<h1>Let {html.escape(pending.client.client_id)} in?</h1>
<form method="post" action="{self._verification_uri}">
<input type="hidden" name="user_code" value="{html.escape(user_code)}">
<p><label>Your name <input type="text" name="user" required></label></p>
{boxes}
<p><button name="decision" value="allow">Allow</button> <button name="decision" value="deny">Deny</button></p>
</form>"""
        return html_reply(html_page("Log a device in", content))

    def _decided(self, request: SeenRequest, note: Note, now: float) -> Reply:
        form = request.check_form()
        pending = self._waiting(form.get("user_code", ""), now)
        if pending is None:
            raise Refusal("invalid_request", "no device waits for this code")
        note.client_id, note.user = pending.client.client_id, form.get("user")
        if form.get("decision") != "allow":
            pending.denied, note.outcome = True, "access_denied"
        elif note.user is None:
            raise Refusal("invalid_request", "nobody is logged in: the user's name is missing")
        else:
            ticked = {value for name, value in request.pairs if name == "scope"}
            pending.user, pending.granted = note.user, tuple(each for each in pending.scope if each in ticked)
        return html_reply(html_page("Done", '<h1>Done</h1>\n<p id="done">Go back to your device.</p>'))

    def _waiting(self, user_code: str, now: float) -> _Pending | None:
        letters = "".join(letter for letter in user_code.upper() if letter in _ALPHABET)
        pending = self._by_user_code.get(f"{letters[:4]}-{letters[4:]}")
        decided = pending is not None and (pending.denied or pending.user is not None)
        return None if pending is None or decided or now >= pending.expires_at else pending

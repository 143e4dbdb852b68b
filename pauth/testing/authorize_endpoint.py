"""The authorization endpoint (RFC 6749 section 4.1.1): a consent page for a browser, and the redirect back to the client."""

from __future__ import annotations

import html
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from pauth.testing.messages import Refusal, Reply, SeenRequest, html_page, html_reply
from pauth.testing.model import Client, Code, State
from pauth.testing.note import Note

__all__ = ["AuthorizeEndpoint", "parse_scope"]

_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_SCOPE_TOKEN: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")
_LOOPBACK: Final = ("http://127.0.0.1", "http://[::1]")
_MAX_PENDING: Final = 10_000


@dataclass(frozen=True, slots=True, repr=False)
class _Pending:
    """A checked authorization request whose user has not decided yet."""

    client: Client
    redirect_uri: str
    redirect_uri_given: bool
    scope: tuple[str, ...]
    state: str | None
    nonce: str | None
    code_challenge: str | None


def parse_scope(value: str | None) -> tuple[str, ...]:
    """A ``scope`` parameter as its scope tokens, in order and once each (RFC 6749 section 3.3).

    :raises Refusal: ``invalid_scope``.
    """
    tokens = [] if value is None else value.split(" ")
    if any(_SCOPE_TOKEN.fullmatch(token) is None for token in tokens):
        raise Refusal("invalid_scope", "the scope has characters that are not allowed, or empty scope tokens")
    return tuple(dict.fromkeys(tokens))


class AuthorizeEndpoint:
    """GET checks the request and shows the page; POST is the page's form."""

    def __init__(self, state: State, *, issuer: str, url: str, iss_parameter: bool, require_pkce: bool) -> None:
        self._state = state
        self._issuer = issuer
        self._url = url
        self._iss_parameter = iss_parameter
        self._require_pkce = require_pkce
        self._pending: dict[str, _Pending] = {}

    def __call__(self, request: SeenRequest, note: Note, now: float) -> Reply:
        """Answer a request. What may not be redirected is shown as a page with status 400 (RFC 6749 section 4.1.2.1)."""
        try:
            return self._decide(request, note, now) if request.method == "POST" else self._show(request, note)
        except Refusal as refusal:
            note.outcome = refusal.error
            return html_reply(_error_page(refusal), refusal.status)

    def _show(self, request: SeenRequest, note: Note) -> Reply:
        params = request.params
        note.client_id = params.get("client_id")
        client, redirect_uri = self._client_and_redirect_uri(request)
        try:
            pending = self._check(request, params, client, redirect_uri)
        except Refusal as refusal:
            note.outcome = refusal.error
            return self._redirect(redirect_uri, params.get("state"), {"error": refusal.error, "error_description": refusal.description})
        handle = secrets.token_urlsafe(16)
        self._pending[handle] = pending
        if len(self._pending) > _MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        note.outcome = "consent"
        return html_reply(_consent_page(self._url, handle, pending, params.get("login_hint", "")))

    def _client_and_redirect_uri(self, request: SeenRequest) -> tuple[Client, str]:
        """Who asks, and where the answer may go: the checks whose failure must not redirect."""
        if any(sum(given == name for given, _ in request.pairs) > 1 for name in ("client_id", "redirect_uri")):
            raise Refusal("invalid_request", "client_id or redirect_uri was given more than once")
        params = request.params
        client = self._state.clients.get(params.get("client_id", ""))
        if client is None:
            raise Refusal("invalid_client", "the client is unknown")
        redirect_uri = params.get("redirect_uri") or (client.redirect_uris[0] if len(client.redirect_uris) == 1 else None)
        if not any(_is_registered(redirect_uri, registered) for registered in client.redirect_uris):
            raise Refusal("invalid_request", "redirect_uri is not exactly one that is registered for the client")
        assert redirect_uri is not None  # noqa: S101  # None is registered for nobody
        return client, redirect_uri

    def _check(self, request: SeenRequest, params: Mapping[str, str], client: Client, redirect_uri: str) -> _Pending:
        if request.problem is not None:
            raise Refusal("invalid_request", request.problem)
        if "authorization_code" not in client.grant_types:
            raise Refusal("unauthorized_client", "the client may not use this grant type")
        if "response_type" not in params:
            raise Refusal("invalid_request", "response_type is missing")
        if params["response_type"] != "code":
            raise Refusal("unsupported_response_type", "only response_type=code is supported")
        challenge = params.get("code_challenge")
        if challenge is None and self._require_pkce:
            raise Refusal("invalid_request", "code_challenge is missing")
        if challenge is not None and params.get("code_challenge_method") != "S256":
            raise Refusal("invalid_request", "code_challenge_method is not S256")
        if challenge is not None and _CHALLENGE.fullmatch(challenge) is None:
            raise Refusal("invalid_request", "code_challenge is not a SHA-256 in base64url")
        return _Pending(
            client=client,
            redirect_uri=redirect_uri,
            redirect_uri_given="redirect_uri" in params,
            scope=parse_scope(params.get("scope")),
            state=params.get("state"),
            nonce=params.get("nonce"),
            code_challenge=challenge,
        )

    def _decide(self, request: SeenRequest, note: Note, now: float) -> Reply:
        form = request.check_form()
        pending = self._pending.pop(form.get("request", ""), None)
        if pending is None:
            raise Refusal("invalid_request", "this page has been used already, or never existed")
        note.client_id, note.user = pending.client.client_id, form.get("user")
        if form.get("decision") != "allow":
            note.outcome = "access_denied"
            return self._redirect(pending.redirect_uri, pending.state, {"error": "access_denied", "error_description": "the user said no"})
        if note.user is None:
            raise Refusal("invalid_request", "nobody is logged in: the user's name is missing")
        ticked = {value for name, value in request.pairs if name == "scope"}
        code = Code(
            client_id=pending.client.client_id,
            user=note.user,
            scope=tuple(scope for scope in pending.scope if scope in ticked),
            redirect_uri=pending.redirect_uri,
            redirect_uri_given=pending.redirect_uri_given,
            code_challenge=pending.code_challenge,
            nonce=pending.nonce,
            issued_at=now,
        )
        return self._redirect(pending.redirect_uri, pending.state, {"code": self._state.add_code(code)})

    def _redirect(self, redirect_uri: str, state: str | None, params: dict[str, str]) -> Reply:
        """Back to the client; 303, so that no browser repeats the form's POST there (RFC 9700 section 4.12)."""
        if state is not None:
            params["state"] = state
        if self._iss_parameter:
            params["iss"] = self._issuer  # RFC 9207 section 2, for errors too
        location = f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(params)}"
        headers = {"Location": location, "Content-Type": "text/plain", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        return Reply(303, b"", headers)


def _is_registered(given: str | None, registered: str) -> bool:
    """Exactly the same; or with a port, where one on this machine was registered without (RFC 8252 section 7.3)."""
    if given is None or given == registered:
        return given is not None
    host = next((host for host in _LOOPBACK if registered.startswith(f"{host}/")), None)
    if host is None:
        return False
    return re.fullmatch(f"{re.escape(host)}:[0-9]{{1,5}}{re.escape(registered.removeprefix(host))}", given) is not None


def _error_page(refusal: Refusal) -> str:
    return html_page("Login failed", f'<h1>Login failed</h1>\n<p id="error">{refusal.error}: {refusal.description}</p>')


def _consent_page(action: str, handle: str, pending: _Pending, login_hint: str) -> str:
    boxes = "\n".join(
        f'<p><label><input type="checkbox" name="scope" value="{html.escape(scope)}" checked> {html.escape(scope)}</label></p>'
        for scope in pending.scope
    )
    content = f"""<h1>Let {html.escape(pending.client.client_id)} in?</h1>
<form method="post" action="{html.escape(action)}">
<input type="hidden" name="request" value="{handle}">
<p><label>Your name <input type="text" name="user" value="{html.escape(login_hint)}" required></label></p>
{boxes}
<p><button name="decision" value="allow">Allow</button> <button name="decision" value="deny">Deny</button></p>
</form>"""
    return html_page("Log in", content)

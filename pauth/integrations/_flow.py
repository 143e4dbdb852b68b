"""A browser's way into a login and out again, in no framework's terms: cookies and forms in, a reply out. OAuth itself is the client's business."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from pauth.client import Login, OAuth2Client
from pauth.clock import Clock
from pauth.core.callback import parse_callback
from pauth.core.wire import MAX_QUERY, read_form
from pauth.errors import ConfigurationError, PAuthError, Remedy
from pauth.integrations._attempts import Attempt, Attempts, new_secret
from pauth.integrations._budget import StartBudget
from pauth.integrations._cookies import CookieSealer, set_cookie
from pauth.integrations._pages import CSRF_FIELD, Form, Problem, Reply, page, problem_of, redirect
from pauth.integrations._paths import local_path
from pauth.integrations._routes import Routes
from pauth.integrations._sessions import Sessions, Visitor
from pauth.secret import Secret

__all__ = ["DisconnectRefused", "LoginFlow", "LoginRefused", "Visit"]

_log = logging.getLogger("pauth.integrations")

_START_AGAIN: Final = "Please start again."


class LoginRefused(Exception):
    """Raised by ``on_login`` to keep somebody out. Its text is shown to them. Their tokens stay stored, unless ``on_login`` revokes them."""


class DisconnectRefused(Exception):
    """Raised by ``on_disconnect`` where an account has to stay, as it is the last way in. Its text is shown to the user. Nothing was revoked."""


@dataclass(frozen=True, slots=True, repr=False)
class Visit:
    """What a browser's request brings, as far as a login is concerned."""

    cookies: Mapping[str, str]
    query: str = ""
    """As it was sent."""

    form: str = ""
    """The body of a form post, as it was sent."""

    form_token: str | None = None
    """The header that may stand in for the form field."""

    address: str | None = None


class LoginFlow:
    """The logins of one client. ``WebLogin`` documents the options.

    ``connects`` tells the two kinds apart. Without it the provider says who the user is, and a cookie remembers it. With it the application knows the
    user, and a login adds the provider's account to theirs.
    """

    def __init__(
        self,
        client: OAuth2Client,
        routes: Routes,
        sealer: CookieSealer,
        *,
        connects: bool,
        scope: Sequence[str] | None,
        extra_params: Mapping[str, str],
        form_post: bool,
        after_login: str,
        after_logout: str,
        session_lifetime: float,
        starts_per_minute: int | None,
        clock: Clock,
    ) -> None:
        for name, path in (("after_login", after_login), ("after_logout", after_logout)):
            if local_path(path) is None:
                raise ConfigurationError(f'{name} has to be a path of this site that begins with one slash: "/account"')
        if form_post and not routes.secure:
            raise ConfigurationError("form_post needs an https redirect_uri: over http browsers send no cookie with such a callback")
        if not session_lifetime > 0 or (starts_per_minute is not None and starts_per_minute < 1):
            raise ConfigurationError("session_lifetime and starts_per_minute have to be above 0")
        # AX-5, WS-2: no cookie means anything to another client, another redirect URI, or another kind of login.
        purpose = "\n".join([client.namespace, routes.redirect_uri, "connect" if connects else "login"])
        digest = hashlib.sha256(purpose.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        cookie = f"__Host-pauth-{digest}" if routes.secure else f"pauth-{digest}"
        same_site = "None" if form_post else "Lax"
        self._client = client
        self._routes = routes
        self._connects = connects
        self._scope = scope
        self._extra = {**({"response_mode": "form_post"} if form_post else {}), **extra_params}
        self._form_post = form_post
        self._after_login, self._after_logout = after_login, after_logout
        self._forget_session = set_cookie(cookie, "", max_age=0, secure=routes.secure)
        self._attempts = Attempts(sealer, name=cookie, purpose=purpose, secure=routes.secure, same_site=same_site, clock=clock)
        self._sessions = Sessions(sealer, name=cookie, purpose=purpose, lifetime=session_lifetime, secure=routes.secure, clock=clock)
        self._budget = None if starts_per_minute is None else StartBudget(starts_per_minute, clock)

    # Who is here

    def visitor(self, cookies: Mapping[str, str], user_id: str | None) -> Visitor | None:
        """Whom a browser may act for.

        :param user_id: the user that the application knows it by; only where it ``connects``.
        """
        if self._connects:
            return None if user_id is None else Visitor(user_id, Secret(user_id))
        return self._sessions.find(cookies)

    def form_token(self, visitor: Visitor | None) -> str:
        """The token for this visitor's forms; empty for nobody."""
        return "" if visitor is None else self._sessions.form_token(visitor)

    def _is_own_form(self, visit: Visit, visitor: Visitor) -> bool:
        """Whether a form was posted from this site (WS-5)."""
        form = read_form(visit.form, MAX_QUERY)
        text = visit.form_token or ("" if isinstance(form, str) else form.get(CSRF_FIELD, ""))
        return self._sessions.is_form_token(text, visitor)

    # In

    def login_url(self, next_path: str = "") -> str:
        """Where a browser begins, to come to ``next_path`` of this site in the end."""
        return self._routes.login + (f"?{urlencode({'next': next_path})}" if local_path(next_path) else "")

    async def login(self, visit: Visit, visitor: Visitor | None) -> Reply:
        """Begin: go to the provider; where an account is to be added, ask first, since anybody can lead a browser here (RFC 9700 section 4.7)."""
        next_path = self._next(visit.query)
        if not self._connects:
            return await self._start(visit, next_path, None)
        if visitor is None:
            return self._stranger()
        fields = {CSRF_FIELD: self.form_token(visitor), "next": next_path}
        form = Form(self._routes.login, "Continue", fields)
        return page(200, "Connect an account", "You will be sent to the provider, to allow this site to use your account there.", form=form)

    async def connect(self, visit: Visit, visitor: Visitor | None) -> Reply:
        """Begin, by the button of that page or of one of the application's own."""
        if visitor is None:
            return self._stranger()
        if not self._is_own_form(visit, visitor):
            return self._foreign_form()
        return await self._start(visit, self._next(visit.form), visitor.user_id)

    def _next(self, pairs: str) -> str:
        values = read_form(pairs, MAX_QUERY)
        path = None if isinstance(values, str) else local_path(values.get("next", ""))
        return self._after_login if path is None or urlsplit(path).path in self._routes.paths else path

    async def _start(self, visit: Visit, next_path: str, user_id: str | None) -> Reply:
        if self._budget is not None and not self._budget.take(visit.address):
            return page(429, "Too many logins", "Too many logins were started from here. Please wait a minute.", retry_after=60)
        secret = new_secret()
        try:
            url = await self._client.get_authorization_url(scope=self._scope, user_id=user_id, session_id=secret.reveal(), extra_params=self._extra)
        except PAuthError as error:
            return self._failed(error)
        state = Secret(next(value for name, value in parse_qsl(urlsplit(url).query) if name == "state"))
        cookie, size = self._attempts.begin(state=state, secret=secret, next_path=next_path, user_id=user_id)
        gone, removals = self._attempts.crowded_out(visit.cookies, room_for=size)
        for attempt in gone:
            await self._give_up(attempt)
        return redirect(url).with_cookies(*removals, cookie)

    async def _give_up(self, attempt: Attempt) -> None:
        """Take a pending login out of the store, which is bounded like the cookies so: a callback serves once, whatever comes of it."""
        try:
            await self._client.handle_callback([("state", attempt.state.reveal())], session_id=attempt.secret.reveal())
        except PAuthError as error:
            _log.debug("an old login was given up for a new one: %s", error.message)

    # Back

    async def callback(self, visit: Visit, visitor: Visitor | None, on_login: Callable[[Login], Awaitable[None]] | None) -> Reply:
        """The provider has sent the browser back."""
        attempt = None
        try:
            params = parse_callback(visit.form if self._form_post else visit.query)
            attempt = None if params.state is None else self._attempts.find(params.state, visit.cookies)
            if attempt is None:  # AX-2. Nothing is taken out of the store: the browser that has the cookie may still come.
                text = f"No login was started in this browser, or it is over. {_START_AGAIN}"
                return self._problem(Problem(400, "Not logged in", text))
            owner = visitor.user_id if self._connects and visitor is not None else None
            if self._connects and (owner is None or owner != attempt.user_id):  # AX-6
                return self._problem(Problem(400, "Not connected", f"Somebody else started this. {_START_AGAIN}")).with_cookies(
                    self._attempts.end(attempt.state)
                )
            login = await self._client.handle_callback(
                visit.form if self._form_post else visit.query, user_id=owner, session_id=attempt.secret.reveal()
            )
        except PAuthError as error:
            reply = self._failed(error)
            return reply if attempt is None else reply.with_cookies(self._attempts.end(attempt.state))
        over = self._attempts.end(attempt.state)
        if on_login is not None:
            try:
                await on_login(login)
            except LoginRefused as refused:
                return self._problem(Problem(403, "Not allowed", str(refused))).with_cookies(over)
            except PAuthError as error:  # what it asked the provider or the store; anything else is for the framework to log
                return self._failed(error).with_cookies(over)
        reply = redirect(attempt.next_path).with_cookies(over)
        return reply if self._connects else reply.with_cookies(self._sessions.begin(login.user_id))

    # Out

    def confirm(self, visitor: Visitor | None, *, disconnect: bool) -> Reply:
        """A page with the button that logs out, or that gives up the provider's account."""
        if visitor is None:
            return redirect(self._after_logout)
        fields = {CSRF_FIELD: self.form_token(visitor)}
        if not disconnect:
            return page(200, "Log out", "You will be logged out of this site.", form=Form(self._routes.logout, "Log out", fields))
        text = "This site will give up its access to your account at the provider" + ("." if self._connects else ", and you will be logged out.")
        return page(200, "Disconnect", text, form=Form(self._routes.disconnect, "Disconnect", fields))

    def logout(self, visit: Visit, visitor: Visitor | None) -> Reply:
        """End the session of this browser. The tokens stay: programs may be using them for the user."""
        if visitor is None:
            return redirect(self._after_logout)
        if not self._is_own_form(visit, visitor):
            return self._foreign_form()
        return self._goodbye(visit)

    async def disconnect(self, visit: Visit, visitor: Visitor | None, on_disconnect: Callable[[str], Awaitable[None]] | None) -> Reply:
        """Revoke the user's tokens, of this provider only (WS-11), and end the session that rests on them."""
        if visitor is None:
            return redirect(self._after_logout)
        if not self._is_own_form(visit, visitor):
            return self._foreign_form()
        try:
            if on_disconnect is not None:
                await on_disconnect(visitor.user_id)
            await self._client.revoke(visitor.user_id)
        except DisconnectRefused as refused:
            return page(403, "Not disconnected", str(refused))
        except PAuthError as error:
            return self._failed(error)
        return self._goodbye(visit)

    def _goodbye(self, visit: Visit) -> Reply:
        # Only after a form of this site's own: a browser sends no cookie with another site's, but would let it remove them.
        return redirect(self._after_logout).with_cookies(self._forget_session, *self._attempts.end_all(visit.cookies))

    # What goes wrong

    def _failed(self, error: PAuthError) -> Reply:
        level = logging.ERROR if error.remedy is Remedy.FIX_CONFIGURATION else logging.WARNING
        _log.log(level, "a login failed: %s", error.message)
        return self._problem(problem_of(error))

    def _problem(self, problem: Problem) -> Reply:
        said = () if problem.code is None else (f"The provider said: {problem.code}",)
        link = ("Start again", self._routes.login)
        return page(problem.status, problem.title, problem.text, *said, link=link, retry_after=problem.retry_after)

    def _stranger(self) -> Reply:
        return page(401, "Not logged in", "Please log in to this site first.")

    def _foreign_form(self) -> Reply:
        return page(403, "Not done", "This form is too old, or was not sent by this site. Please go back, load the page again and repeat.")

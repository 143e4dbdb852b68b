"""A browser whose user says yes (or no) at once."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urlencode, urljoin, urlsplit

import aiohttp
from yarl import URL

from pauth.errors import AuthorizationError
from pauth.secret import Secret
from pauth.testing.messages import FORM

__all__ = ["authorize"]

_MAX_STEPS: Final = 10


async def authorize(
    url: str,
    *,
    user: str = "alice",
    scope: Collection[str] | None = None,
    deny: bool = False,
    session: aiohttp.ClientSession | None = None,
) -> str:
    """Open an authorization URL of :class:`~pauth.testing.AuthorizationServer` as ``user`` and decide; gives the callback URL, without fetching it.

    The page is fetched and its form filled in and sent, as a browser would. Redirects are followed only inside the server's origin.

    :param scope: the scopes to allow, of those asked for, as a collection or separated by spaces; all by default.
    :param deny: press the other button.
    :param session: an HTTP session to use and keep open; by default one is made for the purpose.
    :raises AuthorizationError: the server showed an error page, or anything else that is not its consent page. The message says what.
    """
    allowed = scope.split() if isinstance(scope, str) else scope
    origin, here, form = _origin(url), Secret(url), None
    del url  # it holds the state, and an error's traceback shows what is in its frames
    async with AsyncExitStack() as stack:
        if session is None:
            session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False))
        for _ in range(_MAX_STEPS):
            view = await _open(session, here, form)
            if view.location is not None:
                here, form = view.location, None
                if _origin(here.reveal()) != origin:
                    return here.reveal()
            elif view.page.action is None:
                raise AuthorizationError(f"the authorization endpoint showed no consent page: {view.page.error}", status=view.status)
            else:
                ticked = [box for box in view.page.boxes if allowed is None or box[1] in allowed]
                decision = ("decision", "deny" if deny else "allow")
                here = Secret(urljoin(here.reveal(), view.page.action))
                form = urlencode([*view.page.hidden, *ticked, ("user", user), decision]).encode()
    raise AuthorizationError(f"the authorization endpoint led nowhere in {_MAX_STEPS} steps")


@dataclass(frozen=True, slots=True, repr=False)
class _View:
    """What the browser got: a redirect or a page."""

    status: int
    location: Secret | None
    page: _Page


async def _open(session: aiohttp.ClientSession, url: Secret, form: bytes | None) -> _View:
    """GET ``url``, or POST ``form`` to it."""
    method, headers = ("GET", {}) if form is None else ("POST", {"Content-Type": FORM})
    async with session.request(method, URL(url.reveal(), encoded=True), data=form, headers=headers, allow_redirects=False) as response:
        redirected = response.status in {301, 302, 303, 307, 308}
        location = Secret(urljoin(url.reveal(), response.headers["Location"])) if redirected else None
        return _View(response.status, location, _Page(await response.text()))


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


class _Page(HTMLParser):
    """What matters on a page: its form, or the reason for which it has none."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.hidden: list[tuple[str, str]] = []
        self.boxes: list[tuple[str, str]] = []
        self.error = ""
        self._in_error = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._in_error = given.get("id") == "error"
        if tag == "form":
            self.action = given.get("action", "")
        elif tag == "input":
            kind = {"hidden": self.hidden, "checkbox": self.boxes}.get(given.get("type", ""), [])
            kind.append((given.get("name", ""), given.get("value", "")))

    def handle_data(self, data: str) -> None:
        if self._in_error:
            self.error += data

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002  # the base class's signature
        self._in_error = False

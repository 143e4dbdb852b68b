"""A browser small enough to read: follows redirects, keeps cookies, fills in the forms of a login page."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urljoin

import aiohttp
import yarl

_MAX_PAGES: Final = 20


class _Form(HTMLParser):
    """The first form of a page: where it goes and what it sends."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "form" and self.action is None:
            self.action, self._inside = values.get("action") or "", True
        elif tag == "input" and self._inside and (name := values.get("name")):
            self.fields[name] = values.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False


async def log_in(url: str, *, user: str, redirect_uri: str, login_url: str | None = None) -> str:
    """Open ``url`` (an authorization URL) as ``user`` and give the URL that the server sends the browser back to, below ``redirect_uri``.

    :param login_url: a page that starts the user's session, opened first, for servers whose login page is not the test's subject.
    """
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:  # unsafe: cookies of IP addresses
        if login_url is not None:
            async with session.get(login_url, params={"user": user}) as response:
                response.raise_for_status()
        status, page = await _walk(session, url, user=user, stop_at=redirect_uri)
    if status:
        raise AssertionError(f"the server answered {status} and no form:\n{page[:2000]}")
    return page


async def decide_device(url: str, *, user: str, deny: bool = False) -> str:
    """Open ``url`` (the ``verification_uri_complete`` of a device login), confirm the code as ``user`` or press "abort"; gives the last page."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        _, page = await _walk(session, url, user=user, no={"confirm": {"abort": "yes"}} if deny else {})
    return page


async def _walk(
    session: aiohttp.ClientSession, url: str, *, user: str, stop_at: str | None = None, no: Mapping[str, Mapping[str, str]] | None = None
) -> tuple[int, str]:
    """Follow redirects and send forms until there is none: the status and text of the last page; or 0 and the URL, if it begins with ``stop_at``.

    :param no: what to add to a form that has a field of this name, in order to refuse; then the next page is the last.
    """
    form: dict[str, str] | None = None
    refused = False
    for _ in range(_MAX_PAGES):
        method = "GET" if form is None else "POST"
        async with session.request(method, yarl.URL(url, encoded=True), data=form, allow_redirects=False) as response:
            page = await response.text()
            form = None
            if 300 <= response.status < 400:
                url = urljoin(url, response.headers["Location"])
                if stop_at is not None and url.startswith(stop_at):
                    return 0, url
                continue
        found = _Form(page)
        if response.status != 200 or found.action is None or refused:
            return response.status, page
        url, form = urljoin(url, found.action), {name: value or user for name, value in found.fields.items()}
        for name in form.keys() & (no or {}).keys():
            form.update((no or {})[name])
            refused = True
    raise AssertionError(f"no end after {_MAX_PAGES} pages")

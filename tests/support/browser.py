"""A browser small enough to read: follows redirects, keeps cookies, fills in the forms of a login page."""

from __future__ import annotations

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
        form: dict[str, str] | None = None
        for _ in range(_MAX_PAGES):
            method = "GET" if form is None else "POST"
            async with session.request(method, yarl.URL(url, encoded=True), data=form, allow_redirects=False) as response:
                page = await response.text()
                form = None
                if 300 <= response.status < 400:
                    url = urljoin(url, response.headers["Location"])
                    if url.startswith(redirect_uri):
                        return url
                    continue
            found = _Form(page)
            if response.status != 200 or found.action is None:
                raise AssertionError(f"the server answered {response.status} and no form:\n{page[:2000]}")
            url, form = urljoin(url, found.action), {name: value or user for name, value in found.fields.items()}
    raise AssertionError(f"no way back to {redirect_uri} after {_MAX_PAGES} pages")

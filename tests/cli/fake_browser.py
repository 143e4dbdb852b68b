"""A browser for the tests, as `BROWSER` names one: `python fake_browser.py LOG URL`.

It writes its arguments to LOG, opens the URL, says yes on the double's consent page as `alice`, and follows the way back. Then the status and the
title of the page it came to are added to LOG.
"""

import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def _open(url: str, form: bytes | None = None) -> tuple[int, str, str | None]:
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, data=form)) as response:
            return response.status, response.read().decode(), None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers.get("Location")


def main(log: str, url: str) -> None:
    with Path(log).open("w") as file:
        json.dump(sys.argv[2:], file)
    _, page, _ = _open(url)
    hidden = re.search(r'name="request" value="([^"]+)"', page)
    action = re.search(r'action="([^"]+)"', page)
    assert hidden is not None and action is not None, page
    scopes = re.findall(r'name="scope" value="([^"]+)"', page)
    pairs = [("request", hidden[1]), ("user", "alice"), ("decision", "allow"), *(("scope", scope) for scope in scopes)]
    _, _, location = _open(action[1], urllib.parse.urlencode(pairs).encode())
    assert location is not None
    status, page, _ = _open(location)
    title = re.search("<title>(.*?)</title>", page)
    with Path(log).open("a") as file:
        file.write(f"\n{status} {title[1] if title else page}")


if __name__ == "__main__":
    main(*sys.argv[1:])

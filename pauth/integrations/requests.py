"""A user's token on requests of Requests.

::

    auth = TokenAuth(client, "alice", origins="https://api.example")  # client: a SyncOAuth2Client
    requests.get("https://api.example/me", auth=auth)
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from pauth.integrations._bearer import Bearer, SyncTokenSource, UsableToken
from pauth.integrations._origins import conceal_origins

try:
    import requests
    import requests.auth
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "pauth.integrations.requests needs requests, which is not installed: pip install 'pauth[requests]'", name="requests"
    ) from None

__all__ = ["TokenAuth"]


class TokenAuth(requests.auth.AuthBase):
    """``auth=`` for a request or a session of Requests: a valid token of one user. One object may serve many threads.

    The token goes to the origins named and nowhere else; a request to another goes out without it, and so does one that is redirected to another.
    An answer 401 with ``invalid_token`` makes it refresh the token, once for all that were refused the same one, and send the request again, once,
    if its body is in memory or a file that can be wound back. A request with an ``Authorization`` header of its own is left alone.

    :param client: a :class:`~pauth.SyncOAuth2Client`.
    :param origins: such as ``"https://api.example"``, or several.
    :param refresh_on_any_401: for servers that do not say why they refuse: take any 401 for ``invalid_token``.
    :param allow_insecure_http: permit plain ``http:`` origins on other hosts than this machine. Dangerous: tokens travel readable.
    :raises ConfigurationError: an origin is unusable.

    Requests raise what :meth:`pauth.SyncOAuth2Client.get_token` raises.
    """

    def __init__(
        self,
        client: SyncTokenSource,
        user_id: str,
        *,
        origins: str | Iterable[str],
        refresh_on_any_401: bool = False,
        allow_insecure_http: bool = False,
    ) -> None:
        named = conceal_origins(origins)
        del origins
        self._bearer = Bearer(user_id, named, refresh_on_any_401=refresh_on_any_401, allow_insecure_http=allow_insecure_http)
        self._bearer.origins.check_upgrades()
        self._client = client

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Called by Requests."""
        if self._bearer.origins.covers(r.url or "") and "Authorization" not in r.headers:
            token = self._client.get_token(self._bearer.user_id)
            r.headers.update(token.auth_headers())
            r.hooks["response"].append(functools.partial(self._again, token, _position(r.body)))
        return r

    def _again(self, token: UsableToken, position: int | None, r: requests.Response, **kwargs: Any) -> requests.Response:
        """The response, or that of the second attempt. Runs for each request of a chain of redirects."""
        refused = r.request
        if refused.headers.get("Authorization") != token.auth_headers()["Authorization"]:
            return r  # it was redirected to where the token does not go, or it is the second attempt already
        if not self._bearer.wants_refresh(token, r.status_code, [r.headers.get("WWW-Authenticate", "")]):
            return r
        _ = r.content  # so that the connection can be used again
        r.close()
        newer = self._client.refresh(self._bearer.user_id, if_version=token.version)
        again = refused.copy()
        body: Any = again.body  # whatever the caller gave
        if not isinstance(body, bytes | str | None):
            if position is None:
                return r
            body.seek(position)
        again.headers.update(newer.auth_headers())
        answer: requests.Response = r.connection.send(again, **kwargs)
        answer.history.append(r)
        answer.request = again
        self._bearer.was_refused_again(newer, answer.status_code)
        return answer


def _position(body: Any) -> int | None:
    """Where a file is, if it can be wound back to there."""
    try:
        return body.tell() if hasattr(body, "seek") else None
    except OSError:
        return None

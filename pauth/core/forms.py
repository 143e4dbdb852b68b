"""The one way in which a request with client authentication is put together (RFC 6749 section 2.3, RFC 7009 section 2.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pauth.core.client_auth import ClientAuth
from pauth.core.wire import HTTPRequest, encode_form
from pauth.errors import ConfigurationError
from pauth.secret import Secret

__all__ = ["authenticated_form"]

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def authenticated_form(
    url: str, pairs: Iterator[tuple[str, str]], *, client_id: str, client_secret: Secret | None, client_auth: ClientAuth
) -> HTTPRequest:
    """A form-encoded ``POST`` with the client's authentication; all parameters are in the body, none in the URL (TE-2).

    :param pairs: the parameters; an iterator, so that no frame holds their values while an error is raised (SH-5).
    :raises ConfigurationError: client id, secret and authentication method do not fit together, or a parameter is not encodable as UTF-8.
    """
    request = _form_or_none(url, pairs, client_id, client_secret, client_auth)
    if request is None:
        raise ConfigurationError("a parameter of the request cannot be encoded as UTF-8: it holds a lone surrogate")
    return request


def _form_or_none(
    url: str, pairs: Iterator[tuple[str, str]], client_id: str, client_secret: Secret | None, client_auth: ClientAuth
) -> HTTPRequest | None:
    auth_headers, auth_pairs = client_auth(client_id, client_secret)
    everything = [*pairs, *auth_pairs]
    if any(_SURROGATE.search(name + value) for name, value in everything):
        return None  # encode_form would raise, with this frame and its secrets in the traceback
    headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded;charset=UTF-8", **auth_headers}
    return HTTPRequest("POST", url, headers, encode_form(everything))

"""How the client proves who it is at the token endpoint: one function for each method (RFC 6749 section 2.3, OpenID Connect Core section 9).

Each takes the client id and secret and gives the headers and the body pairs to add to the request. A request carries exactly one of them (TE-3).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias
from urllib.parse import quote_plus

from pauth.errors import ConfigurationError
from pauth.secret import Secret

__all__ = [
    "CLIENT_AUTH_METHODS",
    "ClientAuth",
    "client_auth_named",
    "client_secret_basic",
    "client_secret_basic_raw",
    "client_secret_post",
    "none",
]

ClientAuth: TypeAlias = Callable[[str, Secret | None], tuple[dict[str, str], list[tuple[str, str]]]]
"""``(client_id, client_secret) -> (headers, body_pairs)``"""


def none(client_id: str, client_secret: Secret | None) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """A public client: only ``client_id``, in the body.

    :raises ConfigurationError: no client id, or a client secret that would not be used.
    """
    _check_client_id(client_id)
    if client_secret is not None:
        raise ConfigurationError(
            "client authentication 'none' sends no secret: leave client_secret out, or choose client_secret_basic or client_secret_post"
        )
    return {}, [("client_id", client_id)]


def client_secret_basic(client_id: str, client_secret: Secret | None) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """HTTP Basic with id and secret form-encoded first (RFC 6749 section 2.3.1; TE-3). Nothing is put in the body.

    :raises ConfigurationError: no client id or secret, or one that UTF-8 cannot encode.
    """
    return _basic(client_id, _required(client_id, client_secret, "client_secret_basic"), form_encode=True)


def client_secret_basic_raw(client_id: str, client_secret: Secret | None) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """HTTP Basic with id and secret as they are (RFC 7617), for servers that do not undo the form-encoding.

    :raises ConfigurationError: no client id or secret, one that UTF-8 cannot encode, or a ``:`` in the client id.
    """
    secret = _required(client_id, client_secret, "client_secret_basic_raw")
    if ":" in client_id:
        raise ConfigurationError("a client id with ':' cannot be sent by client_secret_basic_raw; use client_secret_basic or client_secret_post")
    return _basic(client_id, secret, form_encode=False)


def client_secret_post(client_id: str, client_secret: Secret | None) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """``client_id`` and ``client_secret`` in the body.

    :raises ConfigurationError: no client id or secret.
    """
    secret = _required(client_id, client_secret, "client_secret_post")
    return {}, [("client_id", client_id), ("client_secret", secret.reveal())]


CLIENT_AUTH_METHODS: Final[Mapping[str, ClientAuth]] = MappingProxyType(
    {
        "none": none,
        "client_secret_basic": client_secret_basic,
        "client_secret_basic_raw": client_secret_basic_raw,
        "client_secret_post": client_secret_post,
    }
)
"""The methods by their names in the OAuth registry; ``client_secret_basic_raw`` is pauth's own name."""


def client_auth_named(name: str) -> ClientAuth:
    """The method called ``name``.

    :raises ConfigurationError: there is none; the message lists them.
    """
    method = CLIENT_AUTH_METHODS.get(name)
    if method is None:
        raise ConfigurationError(f"unknown client authentication method; choose one of {', '.join(CLIENT_AUTH_METHODS)}")
    return method


def _check_client_id(client_id: str) -> None:
    if not client_id:
        raise ConfigurationError("client_id is empty; take it from the provider's page where the application is registered")


def _required(client_id: str, client_secret: Secret | None, method: str) -> Secret:
    _check_client_id(client_id)
    if not client_secret:
        raise ConfigurationError(f"client authentication {method!r} needs a client_secret; for a public client choose 'none'")
    return client_secret


def _basic(client_id: str, client_secret: Secret, *, form_encode: bool) -> tuple[dict[str, str], list[tuple[str, str]]]:
    header = _basic_header(client_id, client_secret, form_encode=form_encode)
    if header is None:
        raise ConfigurationError(
            "client_id or client_secret cannot be encoded as UTF-8: it holds a lone surrogate (bytes from the environment, perhaps)"
        )
    return {"Authorization": header}, []


def _basic_header(client_id: str, client_secret: Secret, *, form_encode: bool) -> str | None:
    # Apart from its caller, which raises: a UnicodeEncodeError holds the secret, and so would this frame in a traceback with locals.
    try:
        secret = client_secret.reveal()
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}" if form_encode else f"{client_id}:{secret}"
        return "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")
    except UnicodeEncodeError:
        return None

"""The callback on the way back from the authorization endpoint: read as hostile input, then checked against the pending login it answers."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from pauth.core.pending import AuthorizationRequest, hash_session_id
from pauth.core.wire import MAX_QUERY, read_form, read_pairs, safe_text
from pauth.errors import AuthorizationError, InvalidStateError, Remedy
from pauth.secret import Secret

__all__ = ["CLOCK_SKEW", "AuthorizationResponse", "CallbackParams", "parse_callback", "validate_callback"]

CLOCK_SKEW: Final = 300.0
"""By how many seconds the clock that made a request may be ahead of the clock that checks its callback."""

_CODE: Final = re.compile(r"[\x20-\x7e]+")  # RFC 6749 appendix A.11
_URL_START: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.\-]*:)?/|\?")
# What only other response types and modes bring; taking it would let an attacker inject it (AX-8).
_UNREQUESTED: Final = ("access_token", "id_token", "response")

_START_AGAIN: Final = "start the login again"


@dataclass(frozen=True, slots=True, repr=False)
class CallbackParams:
    """The parameters of an authorization response as the browser brought them: well-formed, but not yet believed."""

    code: Secret | None = None
    state: Secret | None = None
    iss: str | None = None
    error: str | None = None
    """The server's error code, made printable."""

    error_description: str | None = None
    """The server's text, made printable and shortened; escape it for HTML."""

    error_uri: str | None = None
    """The server's link, made printable. Never follow it or turn it into a link (AX-10)."""

    def __repr__(self) -> str:
        return f"<CallbackParams code={self.code is not None} state={self.state is not None} error={self.error!r}>"


@dataclass(frozen=True, slots=True)
class AuthorizationResponse:
    """A callback that passed every check. Only this can be exchanged for tokens; :func:`validate_callback` makes it."""

    code: Secret
    request: AuthorizationRequest


def parse_callback(callback: str | Mapping[str, str] | Iterable[tuple[str, str]]) -> CallbackParams:
    """The parameters of a callback, given as its URL, as its query string, or as decoded parameters (a web framework's mapping, or pairs).

    A parameter without a value counts as absent (RFC 6749 section 3.1). Mappings that keep repeated names, as those of Starlette, Django, Flask and
    aiohttp do, are read with all of them.

    :raises AuthorizationError: a parameter is given twice (AX-7), tokens or a JARM response nobody asked for (AX-8), a URL fragment other than
        Facebook's ``#_=_``, or input that is malformed or too long.
    """
    params = _read_callback(callback)
    del callback
    if isinstance(params, str):
        raise AuthorizationError(f"the callback is refused: {params}; {_START_AGAIN}")
    return params


def _read_callback(callback: str | Mapping[str, str] | Iterable[tuple[str, str]]) -> CallbackParams | str:
    if isinstance(callback, str):
        text, _, fragment = callback.strip().partition("#")
        if fragment not in ("", "_=_"):
            return "its URL has a fragment"
        if _URL_START.match(text):
            text = text.partition("?")[2]
        params = read_form(text, MAX_QUERY)
    else:
        pairs = _pairs_of(callback)
        if pairs is None:
            return "its parameters are not pairs of text (pass the URL, or the framework's own query object)"
        if sum(len(name) + len(value) for name, value in pairs) > MAX_QUERY:
            return "its parameters are too large"
        params = read_pairs(pairs)
    if isinstance(params, str):
        return f"its parameters {params}"
    for name in _UNREQUESTED:
        if params.get(name):
            return f"it brings {name!r}, which was not asked for"
    code, state = params.get("code"), params.get("state")
    secrets = [Secret(value) for value in (code, state) if value]
    return CallbackParams(
        code=Secret(code) if code else None,
        state=Secret(state) if state else None,
        iss=params.get("iss") or None,
        error=safe_text(params.get("error"), secrets=secrets, limit=100),
        error_description=safe_text(params.get("error_description"), secrets=secrets),
        error_uri=safe_text(params.get("error_uri"), secrets=secrets),
    )


def _pairs_of(callback: Mapping[str, str] | Iterable[tuple[str, str]]) -> list[tuple[str, str]] | None:
    pairs: Iterable[tuple[str, str]] = cast("Iterable[tuple[str, str]]", callback)
    if isinstance(callback, Mapping):
        params = cast("Mapping[str, str]", callback)
        # Starlette's, Django's and Werkzeug's `items()` hide all values of a name but one; `getlist` gives them all. aiohttp's `items()` does.
        getlist = cast("Callable[[str], list[str]] | None", getattr(params, "getlist", None))
        pairs = params.items() if getlist is None else ((name, value) for name in params for value in getlist(name))
    try:
        result = [(name, value) for name, value in pairs]  # unpacking each is the check
    except (TypeError, ValueError):
        return None
    # An uploaded file in a posted form is no str.
    return result if all(isinstance(part, str) for pair in result for part in pair) else None  # pyright: ignore[reportUnnecessaryIsInstance]


def _same_session(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return one is other
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def validate_callback(
    params: CallbackParams,
    request: AuthorizationRequest | None,
    *,
    session_id: str | None,
    now: float,
    client_id: str | None = None,
    token_endpoint: str | None = None,
) -> AuthorizationResponse:
    """Check a callback against the pending request that its ``state`` names, errors of the server as strictly as codes (AX-1 to AX-8, MX-1 to MX-3).

    :param request: what the store held under :func:`pending_id`, taken out so that it serves once; ``None`` if it held nothing.
    :param session_id: as given to :func:`build_authorization_request`; ``None`` only if it was ``None`` there.
    :param client_id: this client's own id; if given, a login started by another client is refused (AX-5).
    :param token_endpoint: where this client would send the code; if given, a login started with another endpoint is refused (MX-1).
    :raises InvalidStateError: missing, unknown, used or expired state, another browser session, another client.
    :raises AuthorizationError: the server's own error, a wrong or missing ``iss`` (the server's error is then not repeated), both code and error, or
        neither.
    """
    session_hash = hash_session_id(session_id)
    del session_id
    if params.state is None:
        raise InvalidStateError(f"the callback has no state; {_START_AGAIN}")
    if request is None or params.state != request.state:
        raise InvalidStateError(f"no login is pending for this callback: it was used already, has expired, or was never started here; {_START_AGAIN}")
    if not request.created_at - CLOCK_SKEW <= now < request.expires_at:
        raise InvalidStateError(f"the login took too long and has expired (or a clock jumped); {_START_AGAIN}")
    if not _same_session(session_hash, request.session_hash):
        raise InvalidStateError(f"the login was started in another browser session; {_START_AGAIN} in this one")
    if client_id not in (None, request.client_id) or token_endpoint not in (None, request.token_endpoint):
        raise InvalidStateError(f"the login was started with another client, provider or token endpoint; {_START_AGAIN}")
    _check_iss(params, request)
    if params.code is not None and params.error is not None:
        raise AuthorizationError(f"the callback holds both a code and an error; {_START_AGAIN}")
    if params.error is not None:
        raise _server_error(params, request)
    if params.code is None:
        raise AuthorizationError(f"the callback holds neither a code nor an error; {_START_AGAIN}")
    if not _CODE.fullmatch(params.code.reveal()):
        raise AuthorizationError(f"the callback's code holds characters that no code may hold; {_START_AGAIN}")
    return AuthorizationResponse(code=params.code, request=request)


def _check_iss(params: CallbackParams, request: AuthorizationRequest) -> None:
    # RFC 9207 section 2.4: a plain comparison, nothing normalised. The answer may be another server's, so its error is not shown.
    if params.iss is None:
        if request.iss_required:
            raise AuthorizationError(f"the callback names no issuer (iss), but this server always does; {_START_AGAIN}")
    elif request.issuer is not None and params.iss != request.issuer:
        raise AuthorizationError(f"the callback comes from another issuer than the login was started with (mix-up); {_START_AGAIN}")


# The answers of RFC 6749 section 4.1.2.1 (and OpenID Connect Core 3.1.2.6) that no other attempt of the user changes.
_OUR_FAULT: Final = frozenset({"invalid_request", "invalid_scope", "invalid_target", "unauthorized_client", "unsupported_response_type"})


def _server_error(params: CallbackParams, request: AuthorizationRequest) -> AuthorizationError:
    # Masked once more: the parameters may have been put together by hand, and the nonce was not known when they were read.
    secrets = [secret for secret in (request.state, request.nonce, request.code_verifier) if secret is not None]
    error = safe_text(params.error, secrets=secrets, limit=100)
    description = safe_text(params.error_description, secrets=secrets)
    said = f"the server refused the login: {error}" + (f" ({description})" if description else "")
    if error in _OUR_FAULT:
        advice, remedy = "check how the client is registered, and what it asks for", Remedy.FIX_CONFIGURATION
    else:
        advice, remedy = _START_AGAIN, Remedy.LOG_IN_AGAIN
    return AuthorizationError(f"{said}; {advice}", error=error, error_description=description, remedy=remedy)

"""The device authorization grant (RFC 8628): the user types a short code on another device, and the client asks until they have decided.

::

    build_device_authorization_request(…), parse_device_authorization_response(…) -> DeviceAuthorization
    build_device_token_request(…), parse_device_token_response(…)                 -> Token, or Poll: ask again
    PollSchedule                                                                  when

What is kept between the two is in :mod:`pauth.core.pending_device`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from pauth.core.answers import ServerError, read_answer
from pauth.core.client_auth import ClientAuth
from pauth.core.forms import authenticated_form
from pauth.core.grants import parse_token_response
from pauth.core.pending_device import DeviceAuthorization
from pauth.core.quirks import Quirks
from pauth.core.text import printable
from pauth.core.token import Token, is_token_text
from pauth.core.urls import url_problem
from pauth.core.wire import HTTPRequest, HTTPResponse
from pauth.errors import AuthorizationError, MalformedResponse, PAuthError, Remedy, TokenError, UntrustedServer
from pauth.secret import Secret

__all__ = [
    "DEVICE_GRANT",
    "Poll",
    "PollSchedule",
    "build_device_authorization_request",
    "build_device_token_request",
    "device_login_expired",
    "parse_device_authorization_response",
    "parse_device_token_response",
    "usual_seconds",
]

DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"

_ENDPOINT: Final = "device authorization endpoint"
_START_AGAIN: Final = "start the login again"

# DV-5: what a server says is kept inside these bounds, all in seconds.
_INTERVAL: Final = 5.0
_SHORTEST_INTERVAL: Final = 1.0
_LONGEST_INTERVAL: Final = 300.0
_LIFETIME: Final = 600.0
_LONGEST_LIFETIME: Final = 3600.0
_SLOWER_BY: Final = 5.0
_LONGEST_BACKOFF: Final = 60.0

_MAX_USER_CODE: Final = 64
_NOT_ASCII: Final = re.compile(r"[^\x20-\x7e]")


# --- The device authorization endpoint --------------------------------------------------------------------------------------------------------------


def build_device_authorization_request(
    *,
    device_authorization_endpoint: str,
    client_id: str,
    client_secret: Secret | None,
    client_auth: ClientAuth,
    quirks: Quirks,
    scope: Sequence[str] = (),
    resource: Sequence[str] = (),
) -> HTTPRequest:
    """The request that begins a login on another device (RFC 8628 section 3.1).

    :raises ConfigurationError: client id, secret and authentication method do not fit together.
    """
    pairs = _scope_pairs(quirks, scope, resource)
    return authenticated_form(device_authorization_endpoint, pairs, client_id=client_id, client_secret=client_secret, client_auth=client_auth)


def _scope_pairs(quirks: Quirks, scope: Sequence[str], resource: Sequence[str]) -> Iterator[tuple[str, str]]:
    if scope:
        yield "scope", quirks.scope_separator.join(scope)
    for target in resource:
        yield "resource", target


def parse_device_authorization_response(
    response: HTTPResponse,
    *,
    quirks: Quirks,
    issuer: str | None,
    token_endpoint: str,
    client_id: str,
    requested_scope: Sequence[str],
    now: float,
    secrets: Iterable[Secret] = (),
    allow_insecure_http: bool = False,
) -> DeviceAuthorization:
    """What the device authorization endpoint gave (RFC 8628 section 3.2).

    Lifetime and interval are brought within bounds (DV-5); the user code is stripped of whatever a terminal would obey (DV-3).

    :param issuer: the server's issuer, and ``token_endpoint`` the endpoint that the device code is sent to, and no other.
    :param now: the present, in seconds since the Unix epoch, for ``Retry-After``. The lifetime counts from :attr:`HTTPResponse.requested_at`.
    :param secrets: what the request carried, to be masked if the server repeats it (SH-9).
    :raises TokenError: the server stated an error.
    :raises ProviderUnavailable: 408, 425, 429 or 5xx.
    :raises MalformedResponse: a member is missing or unusable.
    :raises UntrustedServer: ``verification_uri`` is none that a user may be sent to.
    """
    answer = read_answer(response, endpoint=_ENDPOINT, quirks=quirks, now=now, secrets=secrets)
    if isinstance(answer, PAuthError):
        raise answer
    if isinstance(answer, ServerError):
        raise TokenError(
            f"the {_ENDPOINT} refused the request: {answer.code} (HTTP {response.status}); "
            "check that the application is registered for the device flow, and its client_id and scopes",
            error=answer.code,
            error_description=answer.description,
            status=response.status,
        )
    uri = next((answer[name] for name in quirks.device_verification_members if name in answer), None)
    problem = url_problem(uri, allow_insecure_http=allow_insecure_http)
    read = None if problem else _read_authorization(answer, response, cast("str", uri), allow_insecure_http=allow_insecure_http)
    del answer
    if problem is not None and isinstance(uri, str) and uri:
        raise UntrustedServer(f"the verification_uri of the {_ENDPOINT} {problem}; nobody is sent there")
    if read is None:
        raise MalformedResponse(
            f"the {_ENDPOINT}'s answer cannot be used: it has no usable device_code, user_code or verification_uri (RFC 8628 section 3.2)",
            status=response.status,
        )
    return replace(read, issuer=issuer, token_endpoint=token_endpoint, client_id=client_id, scope=tuple(requested_scope))


def _read_authorization(answer: dict[str, Any], response: HTTPResponse, uri: str, *, allow_insecure_http: bool) -> DeviceAuthorization | None:
    device_code, user_code, complete = answer.get("device_code"), _shown(answer.get("user_code")), answer.get("verification_uri_complete")
    if not is_token_text(device_code) or not user_code:
        return None
    lifetime = usual_seconds(answer.get("expires_in"), missing=_LIFETIME, lowest=_SHORTEST_INTERVAL, highest=_LONGEST_LIFETIME)
    return DeviceAuthorization(
        device_code=Secret(cast("str", device_code)),
        user_code=user_code,
        verification_uri=uri,
        # a convenience that is not worth a failure
        verification_uri_complete=complete if url_problem(complete, allow_insecure_http=allow_insecure_http) is None else None,
        expires_at=response.requested_at + lifetime,
        interval=usual_seconds(answer.get("interval"), missing=_INTERVAL, lowest=_SHORTEST_INTERVAL, highest=_LONGEST_INTERVAL),
        issuer=None,
        token_endpoint="",
        client_id="",
        scope=(),
    )


def usual_seconds(value: object, *, missing: float, lowest: float, highest: float) -> float:
    """A number of seconds that a server named, within bounds; ``missing`` for what is no number above 0 (DV-5). Never raises."""
    if isinstance(value, str):
        value = int(value) if len(value) <= 20 and value.isascii() and value.isdigit() else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:  # NaN is not above 0 either
        return missing
    return float(min(max(value, lowest), highest))


def _shown(value: object) -> str:
    """Text for the user, without escape sequences, control, bidirectional and other invisible characters (DV-3, NA-9); ``""`` if it is none."""
    if not isinstance(value, str):
        return ""
    return _NOT_ASCII.sub("", printable(value[: 4 * _MAX_USER_CODE])).strip()[:_MAX_USER_CODE]


# --- Polling the token endpoint ---------------------------------------------------------------------------------------------------------------------


class Poll(enum.Enum):
    """An answer that says: ask again (RFC 8628 section 3.5)."""

    PENDING = "authorization_pending"
    """The user has not decided yet."""

    SLOW_DOWN = "slow_down"
    """The same, and from now on five seconds more between two polls."""


def build_device_token_request(
    *, authorization: DeviceAuthorization, client_id: str, client_secret: Secret | None, client_auth: ClientAuth
) -> HTTPRequest:
    """One poll (RFC 8628 section 3.4). The device code goes to the token endpoint that the login was started for.

    :raises ConfigurationError: client id, secret and authentication method do not fit together.
    """
    pairs = _token_pairs(authorization)
    return authenticated_form(authorization.token_endpoint, pairs, client_id=client_id, client_secret=client_secret, client_auth=client_auth)


def _token_pairs(authorization: DeviceAuthorization) -> Iterator[tuple[str, str]]:
    yield "grant_type", DEVICE_GRANT
    yield "device_code", authorization.device_code.reveal()


def parse_device_token_response(
    response: HTTPResponse, *, authorization: DeviceAuthorization, quirks: Quirks, now: float, secrets: Iterable[Secret] = ()
) -> Token | Poll:
    """What a poll gave: a token, or that the client has to ask again.

    ``authorization_pending`` and ``slow_down`` count with the status that the RFC has for them (and with 200, which some servers send with every
    error); with another one only where the provider's record says so (DV-2).

    :raises AuthorizationError: the user said no (``access_denied``), the code has expired (``expired_token``), or is of no use any more.
    :raises PAuthError: as :func:`.parse_token_response`.
    """
    known = [*secrets, authorization.device_code]
    answer = read_answer(response, endpoint="token endpoint", quirks=quirks, now=now, secrets=known)
    if isinstance(answer, ServerError):
        if answer.code in _ASK_AGAIN and (response.status in (200, 400) or response.status in quirks.device_poll_statuses):
            return Poll(answer.code)
        ended = _ended(answer, quirks)
        if ended is not None:
            raise AuthorizationError(
                f"the login on the other device {ended}; {_START_AGAIN}",
                error=answer.code,
                error_description=answer.description,
                status=response.status,
            )
    del answer
    return parse_token_response(
        response,
        quirks=quirks,
        requested_scope=authorization.scope,
        issuer=authorization.issuer,
        token_endpoint=authorization.token_endpoint,
        now=now,
        secrets=known,
    )


_ASK_AGAIN: Final = frozenset(poll.value for poll in Poll)


def _ended(error: ServerError, quirks: Quirks) -> str | None:
    if error.code == "access_denied" or error.code in quirks.device_denied_errors:
        return "was refused by the user"
    if error.code == "expired_token":
        return "took too long: its code has expired"
    if error.code == "invalid_grant" or any(pattern.matches(error.code, error.description) for pattern in quirks.dead_grants):
        return "is over: its code was used already, or has expired"
    return None


@dataclass(frozen=True, slots=True)
class PollSchedule:
    """When to ask next (RFC 8628 sections 3.2 and 3.5; DV-1, DV-2). Frozen: each answer gives the schedule that follows."""

    interval: float
    """Seconds between two polls; it only grows."""

    failures: int = 0
    """How many polls in a row have had no answer."""

    retry_after: float = 0.0
    """Seconds that the server asked to wait, this once."""

    @property
    def wait(self) -> float:
        """Seconds until the next poll: never less than the interval."""
        backoff = min(self.interval * 2.0 ** min(self.failures, 16), _LONGEST_BACKOFF)
        return max(self.interval, backoff, self.retry_after)

    def answered(self, poll: Poll) -> PollSchedule:
        """After an answer."""
        return PollSchedule(self.interval + (_SLOWER_BY if poll is Poll.SLOW_DOWN else 0.0))

    def failed(self, retry_after: float | None) -> PollSchedule:
        """After no answer, or one that says that the server cannot answer now."""
        return PollSchedule(self.interval, self.failures + 1, retry_after or 0.0)


def device_login_expired() -> AuthorizationError:
    """The error for a device login whose user did not decide in time."""
    return AuthorizationError(
        f"the login on the other device took too long: its code has expired; {_START_AGAIN}", error="expired_token", remedy=Remedy.LOG_IN_AGAIN
    )

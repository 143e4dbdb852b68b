"""Where providers leave the specifications: each deviation is a named field, its default is what the RFCs say, and its text names who needs it.

A provider that follows the RFCs has ``Quirks()``. The code that obeys a quirk is in :mod:`pauth.core.answers`, :mod:`pauth.core.grants`,
:mod:`pauth.core.device`, :mod:`pauth.core.revocation` and :mod:`pauth.core.userinfo`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

__all__ = [
    "ErrorPattern",
    "Path",
    "Quirks",
    "RefreshStyle",
    "RevocationStyle",
    "Rotation",
    "RotationClass",
    "UserInfoMapping",
    "authorization_scope",
    "find_member",
]

Path: TypeAlias = tuple[str, ...]
"""The names that lead to a member of a JSON object: ``("picture", "data", "url")``; ``()`` is the object itself."""


def find_member(document: Mapping[str, Any], path: Path) -> Any:
    """The member of ``document`` at ``path``; ``None`` if there is none."""
    node: Any = document
    for name in path:
        if not isinstance(node, Mapping):
            return None
        node = cast("Mapping[str, Any]", node).get(name)
    return node


class RotationClass(enum.Enum):
    """What a server does with a refresh token that is used."""

    NR = "non-rotating"
    """The refresh token stays the same."""

    RO = "rotates, the old one stays valid"

    RG = "rotates, with a grace period for the old one"

    RU = "rotates, the old one dies when the new token is first used"

    RS = "strict single use"

    RSF = "strict single use, and reuse revokes the whole grant"


@dataclass(frozen=True, slots=True)
class Rotation:
    """How a provider rotates refresh tokens. What is not known counts as the strictest class (reliability rule 1)."""

    class_: RotationClass = RotationClass.RSF

    grace: float | None = None
    """For :attr:`RotationClass.RG`: seconds for which the old refresh token still works."""


class RefreshStyle(enum.Enum):
    """What a refresh request looks like."""

    REFRESH_TOKEN = "refresh_token"
    """RFC 6749 section 6."""

    FB_EXCHANGE_TOKEN = "fb_exchange_token"
    """Facebook: there is no refresh token; a still valid access token is exchanged for one that lives longer."""


class RevocationStyle(enum.Enum):
    """What a revocation request looks like."""

    RFC7009 = "rfc7009"

    GITHUB_DELETE = "github_delete"
    """GitHub: ``DELETE {revocation_endpoint}/{client_id}/token`` with Basic authentication and the access token in a JSON body."""

    BEARER_POST = "bearer_post"
    """Slack: ``POST`` presenting the access token that is to be revoked, with an empty body."""

    BEARER_DELETE = "bearer_delete"
    """Facebook: ``DELETE`` on the user's permissions, presenting the access token."""


@dataclass(frozen=True, slots=True)
class ErrorPattern:
    """An error answer, recognised by its code and, only where the code alone does not tell, by a piece of its description."""

    error: str
    description: str | None = None
    """Text that the description contains; ``None`` for any description."""

    def matches(self, error: str | None, description: str | None) -> bool:
        """Whether an answer with this code and description is meant."""
        return self.error == error and (self.description is None or self.description in (description or ""))


@dataclass(frozen=True, slots=True)
class UserInfoMapping:
    """Where the userinfo answer has what :class:`~pauth.core.userinfo.UserInfo` shows. The defaults are OpenID Connect Core section 5.1."""

    subject: tuple[Path, ...] = (("sub",),)
    """All are needed and joined with ``:``. Several where an id is unique only within a team (Slack)."""

    email: Path | None = ("email",)
    email_verified: Path | None = ("email_verified",)
    """``None`` where the provider does not vouch for the address: then it never counts as verified (ID-18)."""

    name: tuple[Path, ...] = (("name",),)
    """The first that holds text is taken (Discord, GitHub: the display name may be missing)."""

    picture: Path | None = ("picture",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """How a provider deviates from the RFCs. Every default is the conforming behaviour."""

    # --- the authorization request

    scope_separator: str = " "
    """Between the scopes of a request. Facebook and Slack: a comma."""

    scope_parameter: str = "scope"
    """The parameter of the authorization request that names the scopes. Slack asks for a user's token in ``user_scope``."""

    authorization_params: tuple[tuple[str, str], ...] = ()
    """Further parameters of the authorization request. Google gives a refresh token only with ``access_type=offline``."""

    pkce: bool = True
    """Whether a PKCE challenge (S256) is sent. LinkedIn and Slack refuse it from clients that have a secret."""

    nonce: bool = True
    """Whether the ID token repeats the ``nonce`` of the request. LinkedIn's does not."""

    # --- the token request

    refresh_style: RefreshStyle = RefreshStyle.REFRESH_TOKEN
    """Facebook: :attr:`RefreshStyle.FB_EXCHANGE_TOKEN`."""

    # --- the token response

    form_responses: bool = False
    """Accept a form-encoded answer beside JSON. GitHub sends one unless it understood ``Accept``."""

    token_paths: tuple[Path, ...] = ((),)
    """Where the object with the access token is; the first that has one is taken. Slack: a user's token is under ``authed_user``."""

    default_token_type: str | None = None
    """The type of a token that came without ``token_type``. Facebook leaves it out of some answers."""

    token_type_aliases: tuple[str, ...] = ()
    """Values of ``token_type`` that mean ``Bearer``. Slack: ``bot``, ``user``."""

    response_scope_separators: str = " "
    """Each character separates the scopes of a response. GitHub, LinkedIn and Slack: a comma."""

    zero_lifetime_is_forever: bool = False
    """``expires_in: 0`` means that the token does not expire."""

    refresh_lifetime_members: tuple[str, ...] = ("refresh_token_expires_in",)
    """Members that hold the lifetime of the refresh token in seconds; the RFCs name none. Google, GitHub, LinkedIn: the default."""

    kept_members: tuple[Path, ...] = ()
    """Members of the response to keep in :attr:`Token.extra`, under their names joined with dots. Slack: the team. Never a secret."""

    # --- errors

    ok_member: str | None = None
    """A member that is ``true`` in good answers and ``false`` in errors, whatever the HTTP status. Slack: ``ok``."""

    error_object: bool = False
    """``error`` is an object with ``code``, ``message`` and ``is_transient``; the code, as text, is the error code. Facebook."""

    dead_grants: tuple[ErrorPattern, ...] = ()
    """Errors that mean ``invalid_grant``. GitHub, Slack and Facebook have codes of their own, X says ``invalid_request``."""

    transient_errors: frozenset[str] = frozenset()
    """Error codes that mean "try again later". Slack says them with HTTP 200, Facebook with HTTP 400."""

    # --- the device grant (RFC 8628)

    device_verification_members: tuple[str, ...] = ("verification_uri",)
    """The member of the device authorization response that says where the user goes; the first that is there. Google: ``verification_url``."""

    device_poll_statuses: frozenset[int] = frozenset()
    """Further HTTP statuses with which ``authorization_pending`` and ``slow_down`` come. Google: 428 and 403."""

    device_denied_errors: frozenset[str] = frozenset()
    """Error codes of a poll that mean ``access_denied``. Microsoft: ``authorization_declined``."""

    # --- revocation

    revocation_style: RevocationStyle = RevocationStyle.RFC7009
    """GitHub, Slack and Facebook have requests of their own."""

    already_revoked_errors: frozenset[str] = frozenset()
    """Error codes of a revocation that mean "that token is dead already", where RFC 7009 answers 200. Google, Slack, Facebook."""

    already_revoked_statuses: frozenset[int] = frozenset()
    """The same, told by the HTTP status. GitHub: 404."""

    # --- identity

    userinfo: UserInfoMapping = UserInfoMapping()
    """Where the userinfo answer has what."""

    id_token_issuer: str | None = None
    """The issuer of ID tokens where metadata cannot name it. Microsoft: a template, ``{tenantid}`` standing for the token's ``tid``."""

    id_token_issuer_aliases: tuple[str, ...] = ()
    """Other spellings of the issuer in ID tokens. Google: without ``https://``."""


def authorization_scope(quirks: Quirks, scope: Sequence[str]) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """How to ask for ``scope`` in an authorization request: the scopes for ``scope``, and further parameters in their order.

    The parameters are those of :attr:`Quirks.authorization_params`, and the scopes too where they go under another name
    (:attr:`Quirks.scope_parameter`).
    """
    if quirks.scope_parameter == "scope" or not scope:
        return tuple(scope), quirks.authorization_params
    return (), (*quirks.authorization_params, (quirks.scope_parameter, quirks.scope_separator.join(scope)))

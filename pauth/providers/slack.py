"""Slack.

One login can give two tokens: the app's own (``bot``, for the workspace) and the user's (nested under ``authed_user``). They are refreshed
separately, so a stored record holds one of them, and the record of the provider says which.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

from pauth.core.metadata import ServerMetadata
from pauth.core.quirks import ErrorPattern, Quirks, RevocationStyle, Rotation, RotationClass, UserInfoMapping
from pauth.errors import ConfigurationError
from pauth.providers.record import Provider

__all__ = ["SLACK", "slack"]

_NO_PKCE: Final = (
    "No PKCE: Slack takes it from public clients only (https://docs.slack.dev/authentication/using-pkce),"
    " and with a client_secret it answers internal_error (https://github.com/paradigmxyz/centaur/pull/1101)."
)

SLACK = Provider(
    name="slack",
    title="Slack",
    docs_url="https://docs.slack.dev/authentication/installing-with-oauth",
    metadata=ServerMetadata(
        authorization_endpoint="https://slack.com/oauth/v2/authorize",
        token_endpoint="https://slack.com/api/oauth.v2.access",
        # openid.connect.userInfo takes only tokens of "Sign in with Slack"; auth.test tells any token whose it is.
        userinfo_endpoint="https://slack.com/api/auth.test",
        revocation_endpoint="https://slack.com/api/auth.revoke",
    ),
    quirks=Quirks(
        pkce=False,
        scope_separator=",",
        response_scope_separators=" ,",
        token_type_aliases=("bot",),
        kept_members=(("team",), ("enterprise",), ("bot_user_id",), ("authed_user", "id")),
        # Everything is answered with HTTP 200; ok and error tell.
        ok_member="ok",
        dead_grants=(ErrorPattern("invalid_refresh_token"), ErrorPattern("token_revoked"), ErrorPattern("invalid_code")),
        transient_errors=frozenset({"internal_error", "fatal_error", "service_unavailable", "request_timeout", "ratelimited"}),
        revocation_style=RevocationStyle.BEARER_POST,
        # Not invalid_auth: an address outside the workspace's allow-list gets it too.
        already_revoked_errors=frozenset({"token_revoked", "token_expired", "account_inactive"}),
        userinfo=UserInfoMapping(subject=(("team_id",), ("user_id",)), email=None, email_verified=None, name=(("user",),), picture=None),
    ),
    default_scopes=("users:read",),  # Slack refuses a login that asks for nothing
    client_auth="client_secret_basic",
    rotation=Rotation(RotationClass.RS),
    notes=(
        _NO_PKCE,
        "Tokens do not expire unless token rotation is switched on for the app; then they live 12 hours, and a refresh token works once.",
        "This is the app's (bot) token; Providers.slack('user') keeps the user's, Providers.slack('openid') is Sign in with Slack.",
    ),
)

_USER: Final = replace(
    SLACK,
    name="slack:user",
    quirks=replace(
        SLACK.quirks,
        scope_parameter="user_scope",
        token_paths=(("authed_user",), ()),  # a login nests it, a refresh does not
        token_type_aliases=("user",),  # so that the bot's token is never taken for the user's
    ),
)

_OPENID: Final = Provider(
    name="slack:openid",
    title="Slack",
    docs_url="https://docs.slack.dev/authentication/sign-in-with-slack",
    metadata=ServerMetadata(
        issuer="https://slack.com",
        authorization_endpoint="https://slack.com/openid/connect/authorize",
        token_endpoint="https://slack.com/api/openid.connect.token",
        userinfo_endpoint="https://slack.com/api/openid.connect.userInfo",
        revocation_endpoint="https://slack.com/api/auth.revoke",
        jwks_uri="https://slack.com/openid/connect/keys",
    ),
    quirks=replace(
        SLACK.quirks,
        scope_separator=" ",
        token_type_aliases=(),
        kept_members=(),
        userinfo=UserInfoMapping(subject=(("https://slack.com/team_id",), ("https://slack.com/user_id",))),
    ),
    default_scopes=("openid", "email", "profile"),
    client_auth="client_secret_post",  # openid.connect.token documents no other
    rotation=Rotation(RotationClass.RS),
    oidc=True,
    notes=(_NO_PKCE,),
)

_KINDS: Final = {"bot": SLACK, "user": _USER, "openid": _OPENID}


def slack(token: Literal["bot", "user", "openid"] = "bot") -> Provider:
    """Slack, keeping one kind of token.

    :param token: ``bot``: the app's token for the workspace, one for all users of it. ``user``: the token to act for the user who logs in; scopes are
        asked for as ``user_scope``. ``openid``: Sign in with Slack, who the user is and nothing more.
    :raises ConfigurationError: none of these.
    """
    provider = _KINDS.get(token)
    if provider is None:
        raise ConfigurationError(f"the kind of Slack token must be one of {', '.join(_KINDS)}")
    return provider

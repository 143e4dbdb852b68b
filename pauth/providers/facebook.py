"""Facebook."""

from __future__ import annotations

from pauth.core.metadata import ServerMetadata
from pauth.core.quirks import ErrorPattern, Quirks, RefreshStyle, RevocationStyle, UserInfoMapping
from pauth.providers.record import Provider

__all__ = ["FACEBOOK"]

FACEBOOK = Provider(
    name="facebook",
    title="Facebook",
    docs_url="https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow",
    metadata=ServerMetadata(
        authorization_endpoint="https://www.facebook.com/v22.0/dialog/oauth",
        token_endpoint="https://graph.facebook.com/v22.0/oauth/access_token",
        userinfo_endpoint="https://graph.facebook.com/v22.0/me?fields=id,name,email,picture",
        revocation_endpoint="https://graph.facebook.com/v22.0/me/permissions",
    ),
    quirks=Quirks(
        scope_separator=",",
        refresh_style=RefreshStyle.FB_EXCHANGE_TOKEN,
        default_token_type="Bearer",
        error_object=True,
        # 190: the access token is expired or revoked. 100 is "invalid parameter"; only the text tells that the parameter was the code.
        dead_grants=(ErrorPattern("190"), ErrorPattern("100", "authorization code")),
        # 2 service down, 4 and 341 application limit, 17 user limit. Not 1, "unknown": a wrong client secret has that code too.
        transient_errors=frozenset({"2", "4", "17", "341"}),
        revocation_style=RevocationStyle.BEARER_DELETE,
        already_revoked_errors=frozenset({"190"}),
        userinfo=UserInfoMapping(subject=(("id",),), email_verified=None, picture=("picture", "data", "url")),
    ),
    default_scopes=("email", "public_profile"),
    client_auth="client_secret_post",
    rotation=None,
    notes=(
        "There is no refresh token. A token of 1-2 hours can be exchanged for one of 60 days while it is valid; afterwards the user must log in.",
        "The email address is optional and not verified.",
        "Revocation ends all permissions the user gave to the app.",
    ),
)

"""Google."""

from __future__ import annotations

from pauth.core.metadata import ServerMetadata
from pauth.core.quirks import Quirks, Rotation, RotationClass
from pauth.providers.record import Provider

__all__ = ["GOOGLE"]

GOOGLE = Provider(
    name="google",
    title="Google",
    docs_url="https://developers.google.com/identity/protocols/oauth2/web-server",
    metadata=ServerMetadata(
        issuer="https://accounts.google.com",
        authorization_endpoint="https://accounts.google.com/o/oauth2/v2/auth",
        token_endpoint="https://oauth2.googleapis.com/token",
        userinfo_endpoint="https://openidconnect.googleapis.com/v1/userinfo",
        revocation_endpoint="https://oauth2.googleapis.com/revoke",
        device_authorization_endpoint="https://oauth2.googleapis.com/device/code",
        jwks_uri="https://www.googleapis.com/oauth2/v3/certs",
    ),
    quirks=Quirks(
        # Without the first there is no refresh token; without the second there is one only at the user's very first consent.
        authorization_params=(("access_type", "offline"), ("prompt", "consent")),
        # Revoking the refresh token kills the access token with it; revoking that too then answers 400 invalid_token.
        already_revoked_errors=frozenset({"invalid_token"}),
        id_token_issuer_aliases=("accounts.google.com",),
        # developers.google.com, "OAuth 2.0 for TV and Limited-Input Device Applications"
        device_verification_members=("verification_url", "verification_uri"),
        device_poll_statuses=frozenset({403, 428}),
    ),
    default_scopes=("openid", "email", "profile"),
    client_auth="client_secret_post",
    rotation=Rotation(RotationClass.NR),
    oidc=True,
    notes=(
        "Granted scopes are named in full (https://www.googleapis.com/auth/userinfo.email for email) and in another order than they were asked for.",
        "About 100 refresh tokens live per account and client; the oldest is dropped silently. They live 7 days while the consent screen is in test.",
        "Restrict logins to an organisation by the hd claim, never by the domain of the email address.",
    ),
)

"""X, formerly Twitter."""

from __future__ import annotations

from pauth.core.metadata import ServerMetadata
from pauth.core.quirks import ErrorPattern, Quirks, Rotation, RotationClass, UserInfoMapping
from pauth.providers.record import Provider

__all__ = ["X"]

X = Provider(
    name="x",
    title="X",
    docs_url="https://docs.x.com/resources/fundamentals/authentication/oauth-2-0/authorization-code",
    metadata=ServerMetadata(
        authorization_endpoint="https://x.com/i/oauth2/authorize",
        token_endpoint="https://api.x.com/2/oauth2/token",
        userinfo_endpoint="https://api.x.com/2/users/me?user.fields=profile_image_url",
        revocation_endpoint="https://api.x.com/2/oauth2/revoke",
    ),
    quirks=Quirks(
        # A spent refresh token and a spent code are both invalid_request; only the text tells them from a wrong request.
        dead_grants=(
            ErrorPattern("invalid_request", "Value passed for the token was invalid"),
            ErrorPattern("invalid_request", "Value passed for the authorization code was invalid"),
        ),
        userinfo=UserInfoMapping(
            subject=(("data", "id"),),
            email=("data", "confirmed_email"),  # needs the scope users.email, and confirmed_email among user.fields in the URL
            email_verified=None,
            name=(("data", "name"),),
            picture=("data", "profile_image_url"),
        ),
    ),
    default_scopes=("tweet.read", "users.read", "offline.access"),
    client_auth="client_secret_basic",
    rotation=Rotation(RotationClass.RSF),
    notes=(
        "There is a refresh token only with the scope offline.access; access tokens live 2 hours.",
        "A refresh token works once; integrators report that using one again ends the whole grant.",
        "The email address comes only with the scope users.email and user.fields=confirmed_email in the userinfo URL, which is refused without it.",
    ),
)

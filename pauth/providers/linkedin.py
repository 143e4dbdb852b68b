"""LinkedIn."""

from __future__ import annotations

from pauth.core.metadata import ServerMetadata
from pauth.core.quirks import Quirks, Rotation, RotationClass
from pauth.providers.record import Provider

__all__ = ["LINKEDIN"]

LINKEDIN = Provider(
    name="linkedin",
    title="LinkedIn",
    docs_url="https://learn.microsoft.com/en-us/linkedin/shared/authentication/authorization-code-flow",
    metadata=ServerMetadata(
        issuer="https://www.linkedin.com/oauth",
        authorization_endpoint="https://www.linkedin.com/oauth/v2/authorization",
        token_endpoint="https://www.linkedin.com/oauth/v2/accessToken",
        userinfo_endpoint="https://api.linkedin.com/v2/userinfo",
        jwks_uri="https://www.linkedin.com/oauth/openid/jwks",
        # No revocation_endpoint: neither the documentation nor the discovery document names one.
    ),
    quirks=Quirks(
        pkce=False,
        nonce=False,
        response_scope_separators=" ,",
    ),
    default_scopes=("openid", "profile", "email"),
    client_auth="client_secret_post",  # Basic is not understood
    rotation=Rotation(RotationClass.NR),
    oidc=True,
    notes=(
        "No PKCE: a token request with code_verifier is answered 401 invalid_client (https://github.com/UsefulSoftwareCo/executor/issues/2087).",
        "LinkedIn's PKCE flow for native applications has an endpoint of its own, enabled for each application.",
        "Refresh tokens are given to approved partners only. They live 365 days from the login; refreshing does not extend that.",
    ),
)

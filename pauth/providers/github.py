"""GitHub: OAuth apps, and GitHub Apps acting for a user."""

from __future__ import annotations

from pauth.core.metadata import ServerMetadata
from pauth.core.quirks import ErrorPattern, Quirks, RevocationStyle, Rotation, RotationClass, UserInfoMapping
from pauth.providers.record import Provider

__all__ = ["GITHUB"]

GITHUB = Provider(
    name="github",
    title="GitHub",
    docs_url="https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps",
    metadata=ServerMetadata(
        issuer="https://github.com/login/oauth",  # only for iss in the callback (RFC 9207); there are no ID tokens
        authorization_endpoint="https://github.com/login/oauth/authorize",
        token_endpoint="https://github.com/login/oauth/access_token",
        userinfo_endpoint="https://api.github.com/user",
        revocation_endpoint="https://api.github.com/applications",
        device_authorization_endpoint="https://github.com/login/device/code",
    ),
    quirks=Quirks(
        form_responses=True,
        response_scope_separators=" ,",
        # Errors come with HTTP 200 and names of GitHub's own (docs.github.com, "Troubleshooting OAuth app access token request errors").
        dead_grants=(ErrorPattern("bad_refresh_token"), ErrorPattern("bad_verification_code")),
        revocation_style=RevocationStyle.GITHUB_DELETE,
        already_revoked_statuses=frozenset({404}),
        # The address in a profile is the public one, not vouched for here; GET /user/emails tells which are verified.
        userinfo=UserInfoMapping(subject=(("id",),), email_verified=None, name=(("name",), ("login",)), picture=("avatar_url",)),
    ),
    default_scopes=("read:user", "user:email"),
    client_auth="client_secret_post",
    rotation=Rotation(RotationClass.RS),
    notes=(
        "Tokens of OAuth apps do not expire. Those of GitHub Apps live 8 hours, their refresh tokens 6 months; each use kills it and the old token.",
        "Revocation takes a live access token and ends that token alone; revoke before it expires, or refresh first.",
        "The API answers 403 to requests without a User-Agent.",
    ),
)

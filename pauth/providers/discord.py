"""Discord."""

from __future__ import annotations

from pauth.core.metadata import ServerMetadata
from pauth.core.quirks import Quirks, Rotation, RotationClass, UserInfoMapping
from pauth.providers.record import Provider

__all__ = ["DISCORD"]

DISCORD = Provider(
    name="discord",
    title="Discord",
    docs_url="https://discord.com/developers/docs/topics/oauth2",
    metadata=ServerMetadata(
        # For iss in the callback, which Discord's metadata document announces; it is compared when it comes, and not missed when it does not.
        issuer="https://discord.com",
        authorization_endpoint="https://discord.com/oauth2/authorize",
        token_endpoint="https://discord.com/api/oauth2/token",
        userinfo_endpoint="https://discord.com/api/users/@me",
        revocation_endpoint="https://discord.com/api/oauth2/token/revoke",
    ),
    quirks=Quirks(
        # avatar is a hash, not a URL: no picture
        userinfo=UserInfoMapping(subject=(("id",),), email_verified=("verified",), name=(("global_name",), ("username",)), picture=None),
    ),
    default_scopes=("identify", "email"),
    client_auth="client_secret_basic",
    rotation=Rotation(RotationClass.RS),
    notes=("A refresh token works once (https://github.com/discord/discord-api-docs/issues/5942); access tokens live 7 days.",),
)

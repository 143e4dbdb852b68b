"""What pauth knows about a provider: one frozen record, the same for the presets and for a provider of your own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pauth.core.client_auth import client_auth_named
from pauth.core.metadata import ServerMetadata
from pauth.core.quirks import Quirks, Rotation
from pauth.errors import ConfigurationError

__all__ = ["Provider"]

_CONFORMING: Final = Quirks()
_STRICTEST: Final = Rotation()


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """An OAuth provider as data.

    A provider of your own needs a name and its endpoints::

        Provider(name="acme", metadata=ServerMetadata(authorization_endpoint="https://…", token_endpoint="https://…"))

    A preset that nearly fits is changed with :func:`dataclasses.replace`.

    :raises ConfigurationError: no name, or an unknown client authentication method.
    """

    name: str
    """A short, stable name; stored tokens are kept under it, so it must not change."""

    metadata: ServerMetadata
    """Its endpoints and what it supports."""

    title: str = ""
    """The name to show to people."""

    docs_url: str = ""
    """The provider's own page on its OAuth."""

    quirks: Quirks = _CONFORMING
    """Where it deviates from the RFCs."""

    default_scopes: tuple[str, ...] = ()
    """What is asked for when the application names no scopes."""

    client_auth: str = "client_secret_basic"
    """How a client with a secret authenticates (:func:`~pauth.core.client_auth.client_auth_named`); one without a secret uses ``none``."""

    rotation: Rotation | None = _STRICTEST
    """What it does with used refresh tokens; the strictest class where that is not known, ``None`` where it has no refresh tokens."""

    oidc: bool = False
    """It issues ID tokens that can be validated. Without an issuer to compare with none is trusted."""

    notes: tuple[str, ...] = ()
    """What an application should know, with sources."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigurationError("a Provider needs a name: stored tokens are kept under it")
        client_auth_named(self.client_auth)
        if self.oidc and self.id_token_issuer is None:
            raise ConfigurationError(f"provider {self.name!r} cannot have oidc=True without an issuer: its ID tokens could not be checked")

    @property
    def id_token_issuer(self) -> str | None:
        """The issuer that ID tokens must name; it may be a template (:data:`~pauth.core.id_token.TENANT_PLACEHOLDER`)."""
        return self.quirks.id_token_issuer or self.metadata.issuer

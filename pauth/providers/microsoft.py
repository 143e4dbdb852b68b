"""Microsoft Entra ID and Microsoft accounts."""

from __future__ import annotations

import re
from typing import Final

from pauth.core.metadata import ServerMetadata
from pauth.core.quirks import Quirks, Rotation, RotationClass, UserInfoMapping
from pauth.errors import ConfigurationError
from pauth.providers.record import Provider

__all__ = ["MICROSOFT", "microsoft"]

_HOST: Final = "https://login.microsoftonline.com"
_SHARED: Final = frozenset({"common", "organizations", "consumers"})
_CONSUMERS: Final = "9188040d-6c67-4c5b-b112-36a304b66dad"
"""The tenant id of all personal accounts."""

_ISSUER_TEMPLATE: Final = f"{_HOST}/{{tenantid}}/v2.0"
_GUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DOMAIN: Final = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")


def microsoft(tenant: str = "common") -> Provider:
    """Microsoft, for the accounts of one tenant or of many.

    :param tenant: a tenant id (a GUID), a domain of the tenant, or ``common`` (any account), ``organizations`` (work and school), ``consumers``
        (personal). With a tenant id the issuer is known, and everything that names an issuer is compared with it exactly.
    :raises ConfigurationError: ``tenant`` is none of these. It becomes part of the URL that secrets are sent to.
    """
    name = tenant.lower()
    known = name in _SHARED or _GUID.fullmatch(name) or (_DOMAIN.fullmatch(name) and len(name) <= 253)
    if not known or not tenant.isascii():  # the Kelvin sign is a k in lower case
        raise ConfigurationError("the Microsoft tenant must be a tenant id (a GUID), a domain name, or one of common, organizations, consumers")
    tenant_id = _CONSUMERS if name == "consumers" else name if _GUID.fullmatch(name) else None
    return Provider(
        name="microsoft" if name == "common" else f"microsoft:{name}",
        title="Microsoft",
        docs_url="https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-auth-code-flow",
        metadata=ServerMetadata(
            # Of several tenants only the ID token tells which one it was: there is no issuer to compare with before.
            issuer=None if tenant_id is None else f"{_HOST}/{tenant_id}/v2.0",
            authorization_endpoint=f"{_HOST}/{name}/oauth2/v2.0/authorize",
            token_endpoint=f"{_HOST}/{name}/oauth2/v2.0/token",
            userinfo_endpoint="https://graph.microsoft.com/oidc/userinfo",
            device_authorization_endpoint=f"{_HOST}/{name}/oauth2/v2.0/devicecode",
            jwks_uri=f"{_HOST}/{name}/discovery/v2.0/keys",
            # No revocation_endpoint: there is none.
        ),
        quirks=Quirks(
            id_token_issuer=_ISSUER_TEMPLATE if tenant_id is None else None,
            # Addresses are set by the tenant's administrator, unchecked ("nOAuth").
            userinfo=UserInfoMapping(email_verified=None),
            device_denied_errors=frozenset({"authorization_declined"}),
        ),
        default_scopes=("openid", "email", "profile", "offline_access"),
        client_auth="client_secret_post",
        rotation=Rotation(RotationClass.RO),
        oidc=True,
        notes=(
            "There is a refresh token only with the scope offline_access; it lives 90 days, 24 hours for a single-page application.",
            "The email address is not verified and not unique: know users by sub, or by oid and tid.",
            "One token request can ask for the scopes of one resource only.",
        ),
    )


MICROSOFT = microsoft()

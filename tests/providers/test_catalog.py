"""Finding a preset, changing one, and making a provider of one's own."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

import pauth.providers as public
from pauth.core.metadata import ServerMetadata
from pauth.core.quirks import Quirks, Rotation, RotationClass
from pauth.errors import ConfigurationError
from pauth.providers import Provider, Providers, provider_named

NAMES = ["discord", "facebook", "github", "google", "linkedin", "microsoft", "slack", "x"]
METADATA = ServerMetadata(token_endpoint="https://as.example/token")


def test_the_presets() -> None:
    assert [preset.name for preset in Providers.all()] == NAMES
    for name in NAMES:
        assert getattr(Providers, name.upper()) is provider_named(name)
    assert Providers.TWITTER is Providers.X


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("github", Providers.GITHUB),
        ("GitHub", Providers.GITHUB),
        (" GITHUB ", Providers.GITHUB),
        ("twitter", Providers.X),
        ("Microsoft-Entra", Providers.MICROSOFT),
    ],
)
def test_by_name(name: str, preset: Provider) -> None:
    assert provider_named(name) is preset


@pytest.mark.parametrize("name", ["", "git hub", "githüb", "https://as.example"])
def test_an_unknown_name_lists_the_known(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        provider_named(name)
    for known in NAMES:
        assert known in str(caught.value)


def test_the_public_names() -> None:
    assert public.__all__ == ["Provider", "Providers", "provider_named"]


# --- a record of one's own


def test_the_smallest_record_is_conforming_and_careful() -> None:
    own = Provider(name="acme", metadata=METADATA)
    assert own.quirks == Quirks()
    assert own.rotation == Rotation(RotationClass.RSF)
    assert own.client_auth == "client_secret_basic"
    assert not own.oidc
    assert own.id_token_issuer is None


def test_a_preset_is_changed_by_a_copy() -> None:
    own = replace(Providers.SLACK, name="slack-pkce", quirks=replace(Providers.SLACK.quirks, pkce=True), client_auth="none")
    assert own.quirks.pkce
    assert not Providers.SLACK.quirks.pkce
    with pytest.raises(FrozenInstanceError):
        own.name = "other"  # type: ignore[misc]


def test_the_issuer_of_id_tokens() -> None:
    metadata = replace(METADATA, issuer="https://as.example")
    assert Provider(name="acme", metadata=metadata, oidc=True).id_token_issuer == "https://as.example"
    assert Provider(name="acme", metadata=metadata, quirks=Quirks(id_token_issuer="https://id.example")).id_token_issuer == "https://id.example"


def test_records_that_cannot_work() -> None:
    with pytest.raises(ConfigurationError, match="needs a name"):
        Provider(name="", metadata=METADATA)
    with pytest.raises(ConfigurationError, match="client_secret_post"):
        Provider(name="acme", metadata=METADATA, client_auth="basic")
    with pytest.raises(ConfigurationError, match="without an issuer"):
        Provider(name="acme", metadata=METADATA, oidc=True)


# --- Microsoft


@pytest.mark.parametrize("tenant", ["common", "organizations", "Contoso.onmicrosoft.com", "contoso.co.uk", "a.de"])
def test_microsoft_without_a_tenant_id_has_no_issuer_to_compare(tenant: str) -> None:
    preset = Providers.microsoft(tenant)
    assert preset.metadata.issuer is None
    assert preset.id_token_issuer == "https://login.microsoftonline.com/{tenantid}/v2.0"
    assert preset.metadata.token_endpoint == f"https://login.microsoftonline.com/{tenant.lower()}/oauth2/v2.0/token"


@pytest.mark.parametrize(
    ("tenant", "tenant_id"),
    [
        ("8EAEF023-2b34-4da1-9baa-8bc8c9d6a490", "8eaef023-2b34-4da1-9baa-8bc8c9d6a490"),
        ("consumers", "9188040d-6c67-4c5b-b112-36a304b66dad"),
    ],
)
def test_microsoft_with_a_tenant_id_has_an_exact_issuer(tenant: str, tenant_id: str) -> None:
    preset = Providers.microsoft(tenant)
    assert preset.metadata.issuer == preset.id_token_issuer == f"https://login.microsoftonline.com/{tenant_id}/v2.0"
    assert f"/{tenant.lower()}/" in preset.metadata.token_endpoint


def test_microsoft_tenants_are_different_providers() -> None:
    assert Providers.microsoft() == Providers.MICROSOFT
    assert len({Providers.microsoft(tenant).name for tenant in ("common", "organizations", "consumers", "a.de", "b.de")}) == 5


@pytest.mark.parametrize(
    "tenant",
    [
        "",
        "contoso",
        "evil.example/x",
        "evil.example#",
        "../common",
        "common\n",
        "common/",
        "a b.de",
        "@evil.example",
        "evil.example:443",
        "%2e%2e",
        "8eaef023-2b34-4da1-9baa-8bc8c9d6a49",
        "8eaef023-2b34-4da1-9baa-8bc8c9d6a4900",
        "-a.de",
        "a..de",
        "ä.de",
        "\u212aelvin.de",
        "{tenantid}",
        "a." * 130 + "de",
    ],
)
def test_lint7_a_tenant_is_matched_in_full(tenant: str) -> None:
    with pytest.raises(ConfigurationError, match="tenant"):
        Providers.microsoft(tenant)


# --- Slack


def test_slack_kinds() -> None:
    assert Providers.slack() is Providers.slack("bot") is Providers.SLACK
    user, openid = Providers.slack("user"), Providers.slack("openid")
    assert len({Providers.SLACK.name, user.name, openid.name}) == 3
    assert user.quirks.scope_parameter == "user_scope"
    assert openid.metadata.issuer == "https://slack.com"
    with pytest.raises(ConfigurationError, match="bot, user, openid"):
        Providers.slack("app")  # type: ignore[arg-type]

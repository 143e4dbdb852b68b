"""Where a server's metadata is found, and what is not taken for it (MD-1, MD-2, MD-3, MD-7, NW-3)."""

from __future__ import annotations

import pytest

from pauth.core.metadata import ServerMetadata
from pauth.core.wire import HTTPResponse
from pauth.errors import ConfigurationError, MalformedResponse, ProviderUnavailable, UntrustedServer
from tests.server.kit import ISSUER, Pages, metadata_document, page

OAUTH = f"{ISSUER}/.well-known/oauth-authorization-server"
OIDC = f"{ISSUER}/.well-known/openid-configuration"
DOWN = ProviderUnavailable("down")


async def test_what_is_known_is_not_asked_for() -> None:
    pages, known = Pages(), ServerMetadata(token_endpoint=f"{ISSUER}/token")
    assert await pages.directory(known).metadata() is known
    assert pages.asked == []


async def test_md2_the_first_candidate_that_has_a_document_is_taken() -> None:
    pages = Pages({OAUTH: page(metadata_document()), OIDC: page(metadata_document(token_endpoint=f"{ISSUER}/other"))})
    metadata = await pages.directory().metadata()
    assert metadata.token_endpoint == f"{ISSUER}/token"
    assert pages.asked == [OAUTH]


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(page(status=404), id="404"),
        pytest.param(page(status=401), id="401"),
        pytest.param(page(status=410), id="410"),
        pytest.param(page(body=b"<html>", content_type="text/html"), id="a page of a web application"),
        pytest.param(page(metadata_document(), content_type="text/html"), id="JSON that says it is HTML (TE-4)"),
        pytest.param(page(status=204, body=b""), id="204"),
        pytest.param(page(metadata_document(), status=201), id="201 (MD-7)"),
        pytest.param(page(metadata_document(), status=302), id="302 (MD-7)"),
    ],
)
async def test_md2_md7_what_is_no_document_makes_the_next_candidate_be_tried(first: HTTPResponse) -> None:
    pages = Pages({OAUTH: first, OIDC: page(metadata_document(token_endpoint=f"{ISSUER}/oidc"))})
    assert (await pages.directory().metadata()).token_endpoint == f"{ISSUER}/oidc"
    assert pages.asked == [OAUTH, OIDC]


async def test_md2_an_issuer_with_a_path_has_three_candidates_on_the_same_host() -> None:
    pages = Pages()
    with pytest.raises(UntrustedServer):
        await pages.directory(f"{ISSUER}/t1/").metadata()
    assert pages.asked == [
        f"{ISSUER}/.well-known/oauth-authorization-server/t1",
        f"{ISSUER}/.well-known/openid-configuration/t1",
        f"{ISSUER}/t1/.well-known/openid-configuration",
    ]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_md7_a_redirect_is_no_document(status: int) -> None:
    pages = Pages({url: page(status=status) for url in (OAUTH, OIDC)})
    with pytest.raises(UntrustedServer, match="publishes no metadata"):
        await pages.directory().metadata()
    assert pages.asked == [OAUTH, OIDC]


@pytest.mark.parametrize("issuer", [f"{ISSUER}/", "https://AS.example", "http://as.example", f"{ISSUER}:443", "https://evil.example", ""])
async def test_md1_a_document_of_another_issuer_is_refused_and_no_other_is_looked_for(issuer: str) -> None:
    pages = Pages({OAUTH: page(metadata_document(issuer=issuer)), OIDC: page(metadata_document())})
    with pytest.raises(UntrustedServer, match="another issuer"):
        await pages.directory().metadata()
    assert pages.asked == [OAUTH]


@pytest.mark.parametrize("name", ["token_endpoint", "authorization_endpoint", "jwks_uri", "userinfo_endpoint", "revocation_endpoint"])
@pytest.mark.parametrize("url", ["http://as.example/x", "http://127.0.0.1/x", "https://user@as.example/x", "file:///etc/passwd", "javascript:1"])
async def test_md3_nw3_jw8_an_endpoint_nothing_may_be_sent_to_is_refused(name: str, url: str) -> None:
    pages = Pages({OAUTH: page(metadata_document(**{name: url}))})
    with pytest.raises(UntrustedServer, match=name):
        await pages.directory().metadata()


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"issuer": 1}', b'{"issuer":"https://as.example"}', b"\xef\xbb\xbf{}"])
async def test_md7_a_broken_document_is_refused(body: bytes) -> None:
    pages = Pages({OAUTH: page(body=body)})
    with pytest.raises(MalformedResponse):
        await pages.directory().metadata()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_te8_a_server_that_is_down_is_not_a_server_without_metadata(status: int) -> None:
    pages = Pages({OAUTH: page(status=status), OIDC: page(metadata_document())})
    with pytest.raises(ProviderUnavailable) as caught:
        await pages.directory().metadata()
    assert caught.value.retryable
    assert caught.value.status == status
    assert pages.asked == [OAUTH]


async def test_an_unreachable_server_is_asked_again_at_the_next_call() -> None:
    pages = Pages({OAUTH: DOWN})
    directory = pages.directory()
    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            await directory.metadata()
    pages.answers[OAUTH] = page(metadata_document())
    assert (await directory.metadata()).issuer == ISSUER


async def test_md2_an_issuer_that_is_no_issuer_is_refused() -> None:
    pages = Pages()
    for issuer in ("http://as.example", f"{ISSUER}?x", f"{ISSUER}#x"):
        with pytest.raises(ConfigurationError):
            await pages.directory(issuer).metadata()
    assert pages.asked == []

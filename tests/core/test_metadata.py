from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pauth.core.metadata import ServerMetadata, check_pkce, parse_metadata, parse_metadata_response, well_known_urls
from pauth.core.wire import HTTPResponse
from pauth.errors import ConfigurationError, MalformedResponse, ProviderUnavailable, UntrustedServer

ISSUER = "https://as.example"
DOCUMENT: dict[str, Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "userinfo_endpoint": f"{ISSUER}/userinfo",
    "revocation_endpoint": f"{ISSUER}/revoke",
    "introspection_endpoint": f"{ISSUER}/introspect",
    "device_authorization_endpoint": f"{ISSUER}/device",
    "jwks_uri": f"{ISSUER}/jwks",
    "scopes_supported": ["openid", "email"],
    "code_challenge_methods_supported": ["S256", "plain"],
    "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    "revocation_endpoint_auth_methods_supported": [],
    "id_token_signing_alg_values_supported": ["RS256"],
    "authorization_response_iss_parameter_supported": True,
    "claims_supported": {"of": ["no", "interest"]},
}
ENDPOINTS = [name for name in DOCUMENT if name.endswith("_endpoint") or name == "jwks_uri"]
LISTS = [name for name, value in DOCUMENT.items() if isinstance(value, list)]
FLAG = "authorization_response_iss_parameter_supported"


def parse(changes: dict[str, Any] | None = None, **options: Any) -> ServerMetadata:
    arguments: dict[str, Any] = {"issuer": ISSUER}
    return parse_metadata(DOCUMENT | (changes or {}), **arguments | options)


# --- MD-2 -------------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("issuer", "urls"),
    [
        (
            "https://as/t1/",
            (
                "https://as/.well-known/oauth-authorization-server/t1",
                "https://as/.well-known/openid-configuration/t1",
                "https://as/t1/.well-known/openid-configuration",
            ),
        ),
        (
            "https://as:8443/a/b",
            (
                "https://as:8443/.well-known/oauth-authorization-server/a/b",
                "https://as:8443/.well-known/openid-configuration/a/b",
                "https://as:8443/a/b/.well-known/openid-configuration",
            ),
        ),
        ("https://as", ("https://as/.well-known/oauth-authorization-server", "https://as/.well-known/openid-configuration")),
        ("https://as/", ("https://as/.well-known/oauth-authorization-server", "https://as/.well-known/openid-configuration")),
        ("http://127.0.0.1:9", ("http://127.0.0.1:9/.well-known/oauth-authorization-server", "http://127.0.0.1:9/.well-known/openid-configuration")),
    ],
)
def test_md2_the_well_known_urls_in_their_order(issuer: str, urls: tuple[str, ...]) -> None:
    assert well_known_urls(issuer) == urls


@pytest.mark.parametrize("issuer", ["http://as", "https://as?x=1", "https://as/?", "https://as/#x", "https://u@as", "as", "", "file:///as"])
def test_md2_md3_an_issuer_that_is_no_plain_https_url_is_refused(issuer: str) -> None:
    with pytest.raises(ConfigurationError, match="issuer"):
        well_known_urls(issuer)


def test_md2_an_insecure_issuer_needs_the_dangerous_option() -> None:
    assert well_known_urls("http://as", allow_insecure_http=True)[0] == "http://as/.well-known/oauth-authorization-server"


# --- MD-1 -------------------------------------------------------------------------------------------------------------------------------------------


def test_md1_a_whole_document_is_read() -> None:
    expected: dict[str, Any] = {name: tuple(value) if name in LISTS else value for name, value in DOCUMENT.items() if name != "claims_supported"}
    assert parse() == ServerMetadata(**expected)


@pytest.mark.parametrize(
    "named", [f"{ISSUER}/", "https://AS.example", "HTTPS://as.example", "http://as.example", f"{ISSUER}:443", f"{ISSUER}/%2e", "x", ""]
)
def test_md1_another_issuer_is_refused_without_normalisation(named: str) -> None:
    with pytest.raises(UntrustedServer, match="another issuer") as caught:
        parse({"issuer": named})
    assert ("trailing slash" in str(caught.value)) is (named == f"{ISSUER}/")


def test_md1_punycode_and_unicode_are_two_issuers() -> None:
    with pytest.raises(UntrustedServer, match="another issuer"):
        parse({"issuer": "https://bücher.example"}, issuer="https://xn--bcher-kva.example")


def test_md1_expected_issuer_is_the_only_opt_out() -> None:
    template = "https://login.example/{tenantid}/v2.0"
    assert parse({"issuer": template}, issuer="https://login.example/common/v2.0", expected_issuer=template).issuer == template
    with pytest.raises(UntrustedServer, match="another issuer"):
        parse(expected_issuer=template)


def test_md4_rediscovery_that_yields_another_issuer_gives_nothing_to_send_to() -> None:
    evil = {"issuer": "https://evil.example", "token_endpoint": "https://evil.example/token"}
    with pytest.raises(UntrustedServer):
        parse(evil)


# --- MD-3 -------------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENDPOINTS)
@pytest.mark.parametrize(
    "url",
    [
        "http://as.example/x",
        "https://u:p@as.example/x",
        "https://as.example/x#y",
        "javascript:alert(1)",
        "file:///x",
        "/x",
        "",
        "https://as .example",
    ],
)
def test_md3_an_endpoint_that_is_no_plain_https_url_is_refused(name: str, url: str) -> None:
    with pytest.raises(UntrustedServer, match=name):
        parse({name: url})


@pytest.mark.parametrize("name", ENDPOINTS)
@pytest.mark.parametrize("value", [1, True, [f"{ISSUER}/x"], {"url": f"{ISSUER}/x"}])
def test_md3_an_endpoint_that_is_no_string_is_refused(name: str, value: object) -> None:
    with pytest.raises(MalformedResponse, match=name):
        parse({name: value})


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("value", ["S256", 1, {"S256": 1}, ["S256", None], [["S256"]]])
def test_md3_a_list_that_is_no_list_of_strings_is_refused(name: str, value: object) -> None:
    with pytest.raises(MalformedResponse, match=name):
        parse({name: value})


@pytest.mark.parametrize("value", ["true", 1, []])
def test_md3_a_flag_that_is_no_bool_is_refused(value: object) -> None:
    with pytest.raises(MalformedResponse, match=FLAG):
        parse({FLAG: value})


@pytest.mark.parametrize("name", ["issuer", "token_endpoint"])
def test_md3_what_nothing_works_without_must_be_there(name: str) -> None:
    for document in ({**DOCUMENT, name: None}, {member: value for member, value in DOCUMENT.items() if member != name}):
        with pytest.raises(MalformedResponse, match=name):
            parse_metadata(document, issuer=ISSUER)


def test_md3_everything_else_may_be_absent_or_null() -> None:
    small = {"issuer": ISSUER, "token_endpoint": f"{ISSUER}/token"}
    least = ServerMetadata(issuer=ISSUER, token_endpoint=f"{ISSUER}/token")
    assert parse_metadata(small, issuer=ISSUER) == least
    assert parse_metadata(dict.fromkeys(DOCUMENT) | small, issuer=ISSUER) == least


def test_nw3_an_https_issuer_has_no_http_endpoints_whatever_the_options() -> None:
    for url in ("http://127.0.0.1/token", "http://localhost/token", "http://as.example/token"):
        for insecure in (False, True):
            with pytest.raises(UntrustedServer, match="must be an https"):
                parse({"token_endpoint": url}, allow_insecure_http=insecure)


def test_nw3_a_loopback_issuer_may_have_http_endpoints() -> None:
    issuer = "http://127.0.0.1:9000"
    small = {"issuer": issuer, "token_endpoint": f"{issuer}/token", "userinfo_endpoint": "https://as.example/me"}
    assert parse_metadata(small, issuer=issuer).token_endpoint == f"{issuer}/token"
    with pytest.raises(UntrustedServer):
        parse_metadata(small | {"token_endpoint": "http://as.example/token"}, issuer=issuer)
    assert parse_metadata(small | {"token_endpoint": "http://as.example/token"}, issuer=issuer, allow_insecure_http=True)


VALUES = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from([ISSUER, f"{ISSUER}/x"]) | st.lists(st.text() | st.integers())
)


@given(st.dictionaries(st.sampled_from(list(DOCUMENT)) | st.text(max_size=5), VALUES | st.dictionaries(st.text(), VALUES, max_size=2)), st.booleans())
def test_md3_any_document_gives_metadata_or_one_of_two_errors(changes: dict[str, Any], whole: bool) -> None:
    try:
        metadata = parse_metadata(DOCUMENT | changes if whole else changes, issuer=ISSUER)
    except (UntrustedServer, MalformedResponse):
        return
    assert metadata.issuer == ISSUER
    assert all(getattr(metadata, name) is None or getattr(metadata, name).startswith("https://") for name in ENDPOINTS)


# --- MD-7 -------------------------------------------------------------------------------------------------------------------------------------------


def answer(status: int = 200, body: bytes | None = None, **headers: str) -> HTTPResponse:
    headers = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return HTTPResponse(status, headers, json.dumps(DOCUMENT).encode() if body is None else body, 1_800_000_000.0)


def test_md7_a_200_with_a_json_object_is_read() -> None:
    assert parse_metadata_response(answer(), issuer=ISSUER) == parse()
    assert parse_metadata_response(answer(content_type="application/json; charset=utf-8"), issuer=ISSUER) == parse()
    other = json.dumps({"issuer": "urn:x", "token_endpoint": "http://as.example/token"}).encode()
    assert parse_metadata_response(
        answer(body=other), issuer="http://as.example", expected_issuer="urn:x", allow_insecure_http=True
    ) == ServerMetadata(issuer="urn:x", token_endpoint="http://as.example/token")


@pytest.mark.parametrize("status", [201, 204, 206, 301, 302, 303, 307, 308, 400, 401, 403, 404, 410])
def test_md7_any_other_status_means_that_there_is_no_metadata_here(status: int) -> None:
    assert parse_metadata_response(answer(status, location="http://169.254.169.254/"), issuer=ISSUER) is None


def test_md7_a_page_for_people_means_the_same() -> None:
    assert parse_metadata_response(answer(content_type="text/html"), issuer=ISSUER) is None


@pytest.mark.parametrize("body", [b"[]", b"", b'{"issuer":"x","issuer":"y"}', b"{}"])
def test_md7_broken_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedResponse):
        parse_metadata_response(answer(body=body), issuer=ISSUER)


def test_md7_another_issuer_is_refused() -> None:
    with pytest.raises(UntrustedServer):
        parse_metadata_response(answer(), issuer="https://other.example")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_md7_a_server_in_trouble_is_to_be_asked_again(status: int) -> None:
    with pytest.raises(ProviderUnavailable) as caught:
        parse_metadata_response(answer(status, retry_after="7"), issuer=ISSUER)
    assert (caught.value.status, caught.value.retry_after, caught.value.retryable) == (status, 7.0, True)
    in_a_minute = answer(status, date="Fri, 15 Jan 2040 23:00:00 GMT", retry_after="Fri, 15 Jan 2040 23:01:00 GMT")
    with pytest.raises(ProviderUnavailable) as caught:
        parse_metadata_response(in_a_minute, issuer=ISSUER)
    assert caught.value.retry_after == 60.0


# --- PK-3 -------------------------------------------------------------------------------------------------------------------------------------------


def test_pk3_metadata_without_s256_is_refused_and_never_a_reason_to_go_without() -> None:
    for methods in (("plain",), (), ("s256",)):
        for required in (False, True):
            with pytest.raises(UntrustedServer, match="S256"):
                check_pkce(ServerMetadata(token_endpoint=f"{ISSUER}/token", code_challenge_methods_supported=methods), required=required)


def test_pk3_metadata_that_says_nothing_is_refused_only_if_pkce_is_required() -> None:
    silent = ServerMetadata(token_endpoint=f"{ISSUER}/token")
    check_pkce(silent)
    with pytest.raises(UntrustedServer, match="S256"):
        check_pkce(silent, required=True)
    check_pkce(parse(), required=True)

"""Every preset reads the answers of its provider: recorded shapes, secrets replaced, in vectors/*.json (TE-6 to TE-13, ID-18, PX-6, RV-1)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

import pauth.errors
from pauth.core.grants import parse_revocation_response, parse_token_response, parse_userinfo_response
from pauth.core.token import token_from_dict, token_to_dict
from pauth.core.wire import HTTPResponse
from pauth.errors import PAuthError, Remedy
from pauth.providers import Provider, Providers
from tests.support.canary import leaks_in_error

REQUESTED_AT: Final = 1_800_000_000.0
NOW: Final = REQUESTED_AT + 3  # the answer took three seconds; expiry counts from the request (TE-11)

PROVIDERS: Final = {provider.name: provider for provider in (*Providers.all(), Providers.slack("user"), Providers.slack("openid"))}
FILES: Final = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((Path(__file__).parent / "vectors").glob("*.json"))}
CASES: Final = [
    pytest.param(document["provider"], case, id=f"{stem}: {case['name']}") for stem, document in FILES.items() for case in document["cases"]
]


def response_of(case: dict[str, Any]) -> HTTPResponse:
    body = case["body"] if isinstance(case["body"], str) else json.dumps(case["body"])
    return HTTPResponse(case["status"], case["headers"], body.encode(), REQUESTED_AT)


def reader_of(provider: Provider, case: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """What reads the case's answer, giving what the case may expect."""
    response, quirks, metadata = response_of(case), provider.quirks, provider.metadata
    stored = case.get("previous")
    previous = None if stored is None else token_from_dict(stored)

    def token() -> dict[str, Any]:
        parsed = parse_token_response(
            response,
            quirks=quirks,
            requested_scope=case.get("requested_scope", ()),
            issuer=metadata.issuer,
            token_endpoint=metadata.token_endpoint,
            now=NOW,
            previous=previous,
        )
        return {"token": token_to_dict(parsed)}

    def userinfo() -> dict[str, Any]:
        info = parse_userinfo_response(response, quirks=quirks, now=NOW)
        assert info.claims == case["body"]
        return {"userinfo": {name: getattr(info, name) for name in ("subject", "email", "email_verified", "name", "picture")}}

    def revoke() -> dict[str, Any]:
        token = previous or token_from_dict({"access_token": "CANARY-access"})
        parse_revocation_response(response, quirks=quirks, token=token, now=NOW)
        return {"revoked": True}

    return {"code": token, "refresh": token, "userinfo": userinfo, "revoke": revoke}[case["kind"]]


@pytest.mark.parametrize(("name", "case"), CASES)
def test_answers(name: str, case: dict[str, Any]) -> None:
    provider, expect = PROVIDERS[name], case["expect"]
    read = reader_of(provider, case)
    assert (case["kind"] == "refresh") <= ("previous" in case)
    if "raises" not in expect:
        if "token" in expect:
            where = {"token_endpoint": provider.metadata.token_endpoint, "issuer": provider.metadata.issuer}
            expect = {"token": {"issued_at": REQUESTED_AT, **{name: url for name, url in where.items() if url is not None}, **expect["token"]}}
        assert read() == expect
        return
    with pytest.raises(PAuthError) as caught:
        read()
    error = caught.value
    assert type(error) is getattr(pauth.errors, expect["raises"])
    assert error.error == expect["error"]
    assert error.status == expect["status"]
    assert error.retry_after == expect.get("retry_after")
    if "remedy" in expect:
        assert error.remedy is Remedy[expect["remedy"]]
    if "reason" in expect:
        assert isinstance(error, pauth.errors.ReauthorizationRequired)
        assert error.reason == expect["reason"]
    if "error_description" in expect:
        assert error.error_description == expect["error_description"]
    assert list(leaks_in_error(error)) == []


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_each_preset_has_the_answers_that_matter(provider: Provider) -> None:
    """Preset lint 5: success, refresh, error and dead refresh token, read by the one parser."""
    (document,) = (document for document in FILES.values() if document["provider"] == provider.name)
    assert document["source"].startswith("https://")
    tags = {(case["kind"], tag) for case in document["cases"] for tag in case["tags"]}
    assert {("code", "success"), ("refresh", "refresh"), ("refresh", "dead"), ("code", "error"), ("userinfo", "userinfo")} <= tags
    assert ("revoke", "revoke") in tags or provider.metadata.revocation_endpoint is None or provider.name == "slack:openid"
    if provider.quirks.form_responses:
        assert ("code", "form") in tags
    if "," in provider.quirks.response_scope_separators and provider.name != "slack:openid":
        assert ("code", "comma") in tags


def test_no_vector_belongs_to_nobody() -> None:
    assert sorted(document["provider"] for document in FILES.values()) == sorted(PROVIDERS)

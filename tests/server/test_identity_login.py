"""The ID token of a login is checked before anything is stored (OpenID Connect Core 3.1.3.7); pauth.core.id_token's own tests have every rule."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from pauth.core.callback import AuthorizationResponse
from pauth.errors import MalformedResponse, ProviderUnavailable, Remedy, UntrustedServer
from pauth.secret import Secret
from pauth.testing import faults
from pauth.testing.id_tokens import jwks
from tests.core.id_token_kit import OTHER_RSA, RSA, b64
from tests.server.kit import Bench, bench, key_set
from tests.transport.kit import assert_bare


async def test_a_login_has_the_subject_of_its_id_token() -> None:
    async with bench() as made:
        token = await made.token(("openid", "email"), user="alice")
    assert token.subject == "alice"
    assert token.id_token is not None
    assert token.issuer == made.server.issuer
    assert token.token_endpoint == made.server.token_endpoint


async def test_the_keys_are_there_before_the_code_is_spent() -> None:
    async with bench() as made:
        await made.token()
        order = [entry.endpoint for entry in made.server.ledger if entry.endpoint in {"jwks", "token"}]
    assert order == ["jwks", "token"]


@pytest.mark.parametrize("fault", [faults.status(503), faults.drop_before(), faults.status(404), faults.body("{", content_type="text/html")])
async def test_without_keys_the_code_is_not_spent(fault: faults.Fault) -> None:
    async with bench() as made:
        response = await made.log_in()
        made.server.script("jwks", fault, times=None)
        with pytest.raises((ProviderUnavailable, MalformedResponse)):
            await made.endpoints.exchange_code(response)
        assert made.server.ledger.count(endpoint="token") == 0
        made.server.clear_script()
        assert (await made.endpoints.exchange_code(response)).subject == "alice"


Forgery = Callable[[Bench, AuthorizationResponse], str]


def _with(**claims: Any) -> Forgery:
    return lambda made, response: made.id_token(nonce=response.request.nonce, **claims)


_REFUSED: dict[str, tuple[Forgery, str]] = {
    "nonce of another login (ID-10)": (lambda made, _: made.id_token(nonce=Secret("CANARY-another-nonce")), "nonce"),
    "no nonce (ID-10)": (lambda made, _: made.id_token(), "nonce"),
    "signed with an unpublished key (ID-5)": (_with(key=RSA), "key"),
    "signature changed (ID-5)": (lambda made, _: made.id_token()[:-8] + "AAAAAAAA", "signature"),
    "another issuer (ID-2)": (_with(iss="https://evil.example"), "iss"),
    "another client (ID-3)": (_with(aud="client-2"), "aud"),
    "expired (ID-8)": (_with(exp=1), "exp"),
    "another access token (ID-14)": (_with(at_hash="AAAA"), "at_hash"),
    "another code (ID-14)": (_with(c_hash="AAAA"), "c_hash"),
    "no JWT (JW-5)": (lambda _made, _response: "CANARY.not-a-jwt", "JWT"),
}


@pytest.mark.parametrize(("forge", "rule"), _REFUSED.values(), ids=_REFUSED.keys())
async def test_an_id_token_that_breaks_a_rule_ends_the_login(forge: Forgery, rule: str) -> None:
    async with bench() as made:
        made.server.script("jwks", faults.body(json.dumps(key_set(OTHER_RSA))), times=None)
        response = await made.log_in()
        made.server.script("token", faults.override(id_token=forge(made, response)))
        with pytest.raises(UntrustedServer) as caught:
            await made.endpoints.exchange_code(response)
        assert made.server.ledger.count(endpoint="token") == 1
    assert rule in caught.value.message
    assert_bare(caught.value)


async def test_an_id_token_that_keeps_all_rules_is_taken_whoever_made_it() -> None:
    """The counterpart of the refusals above: what they change is what they are refused for."""
    async with bench() as made:
        made.server.script("jwks", faults.body(json.dumps(key_set(OTHER_RSA))), times=None)
        response = await made.log_in()
        c_hash = b64(hashlib.sha256(response.code.reveal().encode()).digest()[:16])
        made.server.script("token", faults.override(id_token=_with(sub="bob", c_hash=c_hash)(made, response)))
        assert (await made.endpoints.exchange_code(response)).subject == "bob"


@pytest.mark.parametrize("fault", [faults.omit("id_token"), faults.override(id_token=None), faults.override(id_token=42)])
async def test_a_login_that_asked_for_an_id_token_needs_one(fault: faults.Fault) -> None:
    async with bench() as made:
        response = await made.log_in()
        made.server.script("token", fault)
        with pytest.raises(UntrustedServer, match="gave none"):
            await made.endpoints.exchange_code(response)


async def test_jw10_a_key_that_was_changed_just_before_signing_is_fetched() -> None:
    async with bench() as made:
        made.server.script("jwks", faults.body(json.dumps(key_set(RSA))))  # the keys of yesterday, once
        assert (await made.token()).subject == "alice"
        assert made.server.ledger.count(endpoint="jwks") == 2


async def test_jw9_forged_key_ids_make_no_storm_of_fetches() -> None:
    async with bench() as made:
        made.server.script("token", faults.override(id_token=made.id_token()), times=None)
        for _ in range(5):
            with pytest.raises(UntrustedServer):
                await made.token()
        assert made.server.ledger.count(endpoint="jwks") == 2


async def test_jw9_keys_that_cannot_be_fetched_again_do_not_let_a_forgery_pass() -> None:
    async with bench() as made:
        response = await made.log_in()
        await made.directory.jwks(f"{made.server.issuer}/jwks")
        made.server.script("jwks", faults.status(503), times=None)
        made.server.script("token", faults.override(id_token=made.id_token(nonce=response.request.nonce)))
        with pytest.raises(UntrustedServer) as caught:
            await made.endpoints.exchange_code(response)
    assert caught.value.remedy is Remedy.FIX_CONFIGURATION


async def test_id5_a_forgery_under_the_id_of_a_published_key_is_refused() -> None:
    (published,) = jwks()["keys"]
    forger = type(OTHER_RSA).import_key({**OTHER_RSA.as_dict(private=True), "kid": published["kid"]})
    async with bench() as made:
        response = await made.log_in()
        made.server.script("token", faults.override(id_token=made.id_token(key=forger, nonce=response.request.nonce)))
        with pytest.raises(UntrustedServer, match="signature"):
            await made.endpoints.exchange_code(response)
        assert made.server.ledger.count(endpoint="jwks") == 1


@pytest.mark.parametrize(
    ("provider", "scope"),
    [
        pytest.param({"oidc": False}, ("openid",), id="a provider without OpenID Connect"),
        pytest.param({}, ("email",), id="a login that did not ask for one"),
        pytest.param({"metadata": {"jwks_uri": None}}, ("openid",), id="a server without keys"),
        pytest.param({"oidc": False, "metadata": {"issuer": None}}, ("openid",), id="a server without an issuer"),
    ],
)
async def test_id17_an_id_token_that_is_not_checked_is_not_kept(provider: dict[str, Any], scope: tuple[str, ...]) -> None:
    async with bench(provider=provider) as made:
        made.server.script("token", faults.override(id_token="CANARY.id-token.unchecked"))
        token = await made.token(scope)
        assert made.server.ledger.count(endpoint="jwks") == 0
    assert token.id_token is None
    assert token.subject is None


@pytest.mark.parametrize(
    ("named", "accepted"),
    [(None, True), (["RS256"], True), (["ES256", "RS256"], True), (["ES256"], False), (["none"], True), (["HS256", "none"], True)],
)
async def test_id6_the_algorithm_is_the_servers_choice_and_never_the_tokens(named: list[str] | None, *, accepted: bool) -> None:
    async with bench() as made:
        made.server.script("metadata", faults.override(id_token_signing_alg_values_supported=named), times=None)
        response = await made.log_in()
        if accepted:
            assert (await made.endpoints.exchange_code(response)).subject == "alice"
        else:
            with pytest.raises(UntrustedServer, match="ES256"):
                await made.endpoints.exchange_code(response)

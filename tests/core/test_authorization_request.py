from __future__ import annotations

import base64
import hashlib
import random
import re
import secrets
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pauth.core.authorization as authorization_module
import pauth.core.client_auth as client_auth_module
from pauth.core.authorization import MAX_LIFETIME, AuthorizationRequest
from pauth.errors import ConfigurationError
from pauth.secret import Secret
from tests.core.authorization_kit import ISSUER, NOW, SESSION, build, canary_bytes, query


def octets(secret: Secret | None) -> bytes:
    assert secret is not None
    return base64.urlsafe_b64decode(secret.reveal() + "=")


def test_ar1_pk1_the_url_of_a_login() -> None:
    request = build(use_nonce=True, resource=["https://api.example/", "urn:x"], extra_params={"prompt": "consent"})
    assert request.nonce is not None
    assert request.code_verifier is not None
    challenge = base64.urlsafe_b64encode(hashlib.sha256(request.code_verifier.reveal().encode()).digest()).decode().rstrip("=")
    assert request.url.startswith(f"{ISSUER}/authorize?")
    assert query(request.url) == [
        ("response_type", "code"),
        ("client_id", "client-1"),
        ("redirect_uri", "https://app.example/callback"),
        ("scope", "openid email"),
        ("state", request.state.reveal()),
        ("nonce", request.nonce.reveal()),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256"),
        ("resource", "https://api.example/"),
        ("resource", "urn:x"),
        ("prompt", "consent"),
    ]
    assert "+" not in request.url  # a space is %20


def test_ar1_least() -> None:
    request = build(redirect_uri=None, scope=(), issuer=None, session_id=None)
    assert [name for name, _ in query(request.url)] == ["response_type", "client_id", "state", "code_challenge", "code_challenge_method"]
    assert (request.redirect_uri, request.scope, request.issuer, request.session_hash, request.nonce) == (None, (), None, None, None)


def test_mx1_ax4_the_record_binds_the_attempt() -> None:
    request = build(iss_required=True, user_id="alice", lifetime=60, resource=["urn:x"])
    assert (request.issuer, request.authorization_endpoint, request.token_endpoint) == (ISSUER, f"{ISSUER}/authorize", f"{ISSUER}/token")
    assert (request.client_id, request.redirect_uri, request.user_id, request.resource) == (
        "client-1",
        "https://app.example/callback",
        "alice",
        ("urn:x",),
    )
    assert (request.created_at, request.expires_at, request.iss_required) == (NOW, NOW + 60, True)
    assert request.session_hash == hashlib.sha256(SESSION.encode()).hexdigest()


def test_ar1_another_response_type_is_refused_before_any_url_is_built() -> None:
    def no_randomness(n: int) -> bytes:
        raise AssertionError("something was built")

    for response_type in ("token", "id_token token", "code"):
        with pytest.raises(ConfigurationError, match="response_type"):
            build(extra_params={"response_type": response_type}, token_bytes=no_randomness)


def test_ar2_there_is_no_password_grant() -> None:
    for module in (authorization_module, client_auth_module):
        assert not [name for name in dir(module) if "password" in name.lower()]


# --- AR-3, AR-8: randomness -------------------------------------------------------------------------------------------------------------------------


def test_ar3_ten_thousand_attempts_share_nothing() -> None:
    seen: set[bytes] = set()
    for _ in range(10_000):
        request = build(use_nonce=True, token_bytes=secrets.token_bytes)
        for secret in (request.state, request.nonce, request.code_verifier):
            assert len(octets(secret)) == 32
            seen.add(octets(secret))
    assert len(seen) == 30_000


def test_ar3_randomness_comes_from_the_given_source_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def constant(*_: object) -> int:
        return 0

    for name in ("random", "getrandbits", "randbytes"):
        monkeypatch.setattr(random, name, constant)
    drawn: list[bytes] = []

    def source(n: int) -> bytes:
        drawn.append(canary_bytes()(n))
        return drawn[-1]

    request = build(use_nonce=True, token_bytes=source)
    assert drawn == [octets(request.state), octets(request.code_verifier), octets(request.nonce)]


@pytest.mark.parametrize("n", [0, 16, 31, 33, 64])
def test_ar3_a_source_that_gives_another_number_of_bytes_is_refused(n: int) -> None:
    def source(_: int) -> bytes:
        return secrets.token_bytes(n)

    with pytest.raises(ConfigurationError, match="random bytes"):
        build(token_bytes=source)


def test_ar8_state_is_nothing_but_random_bytes() -> None:
    request = build(user_id="CANARY-user@example.com", token_bytes=secrets.token_bytes)
    assert len(octets(request.state)) == 32
    assert "CANARY" not in request.url


@given(st.randoms(use_true_random=True))
def test_pk2_the_verifier_is_43_unreserved_characters(source: random.Random) -> None:
    request = build(token_bytes=source.randbytes)
    assert request.code_verifier is not None
    assert re.fullmatch(r"[A-Za-z0-9\-._~]{43}", request.code_verifier.reveal())
    assert request.code_verifier.reveal() not in request.url


def test_pk1_the_challenge_of_rfc_7636_appendix_b() -> None:
    verifier = base64.urlsafe_b64decode("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk=")

    def source(_: int) -> bytes:
        return verifier

    request = build(token_bytes=source)
    assert ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM") in query(request.url)


def test_pk3_without_pkce_an_openid_login_always_has_a_nonce() -> None:
    request = build(pkce=False)
    assert request.code_verifier is None
    assert request.nonce is not None
    names = [name for name, _ in query(request.url)]
    assert "nonce" in names
    assert "state" in names
    assert not [name for name in names if name.startswith("code_challenge")]
    plain = build(pkce=False, scope=["email"])
    assert plain.nonce is None
    assert plain.state


# --- AR-4: reserved parameters ----------------------------------------------------------------------------------------------------------------------

RESERVED = ["response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge", "code_challenge_method", "resource"]


@pytest.mark.parametrize("name", [*RESERVED, "request", "request_uri", "State", "CLIENT_ID"])
def test_ar4_reserved_parameters_cannot_be_overridden(name: str) -> None:
    for changes in ({"extra_params": {name: "x"}}, {"extra_params": [(name, "")]}, {"authorization_endpoint": f"{ISSUER}/authorize?{name}=x&foo=1"}):
        with pytest.raises(ConfigurationError, match=name.lower()):
            build(**changes)


@pytest.mark.parametrize("endpoint", ["/authorize?foo=1", "/authorize?foo=1&", "/authorize?", "/authorize?foo"])
def test_ar4_the_endpoints_own_query_is_kept(endpoint: str) -> None:
    request = build(authorization_endpoint=ISSUER + endpoint, extra_params=[("bar", "a b&c")])
    assert request.url.startswith(ISSUER + endpoint)
    assert "&&" not in request.url
    counts = Counter(part.partition("=")[0] for part in urlsplit(request.url).query.split("&"))
    assert set(counts.values()) == {1}
    assert counts["foo"] == ("foo" in endpoint)
    assert ("bar", "a b&c") in [*query(request.url.replace("foo&", "foo=&"))]


@pytest.mark.parametrize(
    "changes",
    [
        {"extra_params": [("a", "1"), ("a", "1")]},
        {"extra_params": {"foo": "1"}, "authorization_endpoint": f"{ISSUER}/authorize?foo=1"},
        {"authorization_endpoint": f"{ISSUER}/authorize?foo=1&foo=1"},
        {"authorization_endpoint": f"{ISSUER}/authorize?foo=%FF"},
        {"extra_params": {"a": 1}},
        {"extra_params": {"a": None}},
        {"extra_params": {"a": ["1"]}},
        {"extra_params": {"a": b"1"}},
        {"extra_params": [("a",)]},
        {"extra_params": "ab=1"},
        {"extra_params": {"a": "\ud800"}},
        {"extra_params": {f"a{n}": "" for n in range(65)}},
    ],
)
def test_ar4_extra_parameters_are_pairs_of_str_each_given_once(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="extra parameters") as caught:
        build(**changes)
    assert caught.value.__context__ is None


@given(
    st.dictionaries(st.text(max_size=10), st.text(max_size=20), max_size=5),
    st.dictionaries(st.text("abstate", min_size=1, max_size=5), st.text("x1", max_size=3), max_size=3),
)
def test_ar4_every_parameter_is_there_once_whatever_is_added(extra: dict[str, str], own: dict[str, str]) -> None:
    own_query = "&".join(f"{name}={value}" for name, value in own.items())
    try:
        request = build(authorization_endpoint=f"{ISSUER}/authorize?{own_query}", extra_params=extra)
    except ConfigurationError:
        return
    pairs = query(request.url)
    assert len(pairs) == len(dict(pairs))
    assert dict(pairs)["state"] == request.state.reveal()
    assert extra.items() | own.items() <= dict(pairs).items()


# --- AR-5, AR-6, AR-7: URLs -------------------------------------------------------------------------------------------------------------------------

REDIRECT_URIS = [
    "https://app.example/callback",
    "https://app.example",
    "https://App.Example/a%2Fb/?x=a+b&y=%20",
    "https://xn--bcher-kva.example/callback/",
    "https://app.example:8443/",
    "http://127.0.0.1:8080/callback",
    "http://[::1]/callback",
    "http://localhost:3000/callback",
    "com.example.app:/callback",
    "com.example.app://callback?x=1",
    "Com.Example:x",
]


@pytest.mark.parametrize("uri", REDIRECT_URIS)
def test_ar5_ar6_a_redirect_uri_is_sent_and_kept_exactly_as_given(uri: str) -> None:
    request = build(redirect_uri=uri)
    assert dict(query(request.url))["redirect_uri"] == uri == request.redirect_uri
    assert AuthorizationRequest.from_dict(request.to_dict()).redirect_uri == uri


@given(st.from_regex(r"https://[a-zA-Z]{1,9}\.example(/([a-zA-Z0-9+~.-]|%2[0-9A-F]){0,20}){0,3}(\?[a-z]=[+%2F]{0,3})?", fullmatch=True))
def test_ar5_whatever_its_spelling(uri: str) -> None:
    try:
        request = build(redirect_uri=uri)
    except ConfigurationError:
        assert re.search("%(?![0-9A-F]{2})", uri)
    else:
        assert dict(query(request.url))["redirect_uri"] == uri == request.redirect_uri


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/callback",
        "https://app.example/callback#x",
        "com.example.app:/callback#x",
        "http://app.example/callback",
        "http://localhost:80@evil/cb",
        "https://a@evil/cb",
        "http://[bad/",
        "https://app.example/a b",
        "https://app.example\\x",
        "myapp:/callback",
        "javascript:alert(1)",
        "data:text/html,x",
        "urn:ietf:wg:oauth:2.0:oob",
        ".app:/callback",
        "com..app:/callback",
        "com.example.app:",
        "com.example.app:/\ncallback",
        " https://app.example/",
    ],
)
def test_ar6_a_bad_redirect_uri_is_refused(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="redirect_uri") as caught:
        build(redirect_uri=uri)
    assert caught.value.__context__ is None


def test_ar6_ar7_http_needs_the_dangerous_option() -> None:
    http = {
        "redirect_uri": "http://app.example/cb",
        "authorization_endpoint": "http://as.example/authorize",
        "token_endpoint": "http://as.example/token",
    }
    for name, url in http.items():
        with pytest.raises(ConfigurationError, match="https"):
            build(**{name: url})
    assert build(**http, allow_insecure_http=True).url.startswith("http://as.example/authorize?")


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)//", "JavaScript:x", " javascript:x", "\x01data:x", "file:///x", "vbscript:x", "//as.example", "https://u@as"]
)
def test_ar7_endpoints_are_https_urls(url: str) -> None:
    with pytest.raises(ConfigurationError, match="authorization endpoint"):
        build(authorization_endpoint=url)
    with pytest.raises(ConfigurationError, match="token endpoint"):
        build(token_endpoint=url)


# --- Other arguments --------------------------------------------------------------------------------------------------------------------------------


def test_ar1_scopes_are_joined_by_the_providers_separator() -> None:
    request = build(scope=("a", "b"), scope_separator=",")
    assert dict(query(request.url))["scope"] == "a,b"
    assert request.scope == ("a", "b")
    assert dict(query(build(scope=["a,b"]).url))["scope"] == "a,b"


@pytest.mark.parametrize(
    ("scope", "separator"),
    [
        ("openid email", " "),
        (["openid email"], " "),
        (["openid", ""], " "),
        (["a,b"], ","),
        (['"'], " "),
        (["a\\b"], " "),
        (["é"], " "),
        (["a\n"], " "),
    ],
)
def test_ar1_a_bad_scope_is_refused(scope: Any, separator: str) -> None:
    with pytest.raises(ConfigurationError, match="scope"):
        build(scope=scope, scope_separator=separator)


@pytest.mark.parametrize(
    "resource", ["https://api.example", ["api.example"], ["https://api.example/#x"], ["https://api.example/a b"], [""], ["https:"]]
)
def test_ar4_a_bad_resource_is_refused(resource: Any) -> None:
    with pytest.raises(ConfigurationError, match="resource"):
        build(resource=resource)


@pytest.mark.parametrize("lifetime", [0, -1, MAX_LIFETIME + 1, float("inf"), float("nan")])
def test_ax4_a_login_lives_an_hour_at_most(lifetime: float) -> None:
    with pytest.raises(ConfigurationError, match="lifetime"):
        build(lifetime=lifetime)
    assert build(lifetime=MAX_LIFETIME).expires_at == NOW + 3600


@pytest.mark.parametrize("client_id", ["", "é", "a\n", "\ud800"])
def test_ar4_a_bad_client_id_is_refused(client_id: str) -> None:
    with pytest.raises(ConfigurationError, match="client_id"):
        build(client_id=client_id)


def test_mx2_iss_cannot_be_required_without_an_issuer() -> None:
    with pytest.raises(ConfigurationError, match="issuer must be configured"):
        build(iss_required=True, issuer=None)


def test_ax2_an_empty_session_id_would_bind_to_nobody() -> None:
    with pytest.raises(ConfigurationError, match="session_id is empty"):
        build(session_id="")


def test_sh5_a_refusal_does_not_show_the_session_id() -> None:
    # The canary plugin looks through the frames' locals.
    with pytest.raises(ConfigurationError):
        build(session_id="CANARY-session-2", client_id="")

from __future__ import annotations

import base64
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pauth.core.client_auth as client_auth_module
from pauth.core.client_auth import (
    CLIENT_AUTH_METHODS,
    ClientAuth,
    client_auth_named,
    client_secret_basic,
    client_secret_basic_raw,
    client_secret_post,
    none,
)
from pauth.errors import ConfigurationError
from pauth.secret import Secret

SECRET = Secret("CANARY-client-secret-1")
WITH_SECRET: list[ClientAuth] = [client_secret_basic, client_secret_basic_raw, client_secret_post]
VISIBLE = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


def decoded(headers: dict[str, str]) -> str:
    scheme, _, credentials = headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(credentials, validate=True).decode()


def test_te3_basic_form_encodes_id_and_secret_first() -> None:
    headers, body = client_secret_basic("my id:1", Secret("a:b%+é"))
    assert headers == {"Authorization": "Basic bXkraWQlM0ExOmElM0FiJTI1JTJCJUMzJUE5"}
    assert decoded(headers) == "my+id%3A1:a%3Ab%25%2B%C3%A9"
    assert body == []


def test_te3_basic_without_the_encoding_is_an_opt_out() -> None:
    headers, body = client_secret_basic_raw("id", Secret("a:b%+é"))
    assert decoded(headers) == "id:a:b%+é"
    assert body == []


def test_te3_post_puts_both_in_the_body_and_nothing_in_a_header() -> None:
    assert client_secret_post("id", SECRET) == ({}, [("client_id", "id"), ("client_secret", SECRET.reveal())])


def test_te3_a_public_client_sends_its_id_only() -> None:
    assert none("id", None) == ({}, [("client_id", "id")])


@pytest.mark.parametrize("method", CLIENT_AUTH_METHODS.values())
def test_te3_a_request_carries_exactly_one_method(method: ClientAuth) -> None:
    headers, body = method("id", None if method is none else SECRET)
    carriers = ["Authorization" in headers, "client_secret" in dict(body)]
    assert sum(carriers) == (0 if method is none else 1)
    assert ("client_id" in dict(body)) is ("Authorization" not in headers)


@given(VISIBLE, VISIBLE)
def test_te3_a_server_that_undoes_the_encoding_reads_what_was_given(client_id: str, secret: str) -> None:
    headers, _ = client_secret_basic(client_id, Secret(secret))
    one, colon, other = decoded(headers).partition(":")
    assert (unquote_plus(one), colon, unquote_plus(other)) == (client_id, ":", secret)


@pytest.mark.parametrize("method", WITH_SECRET)
@pytest.mark.parametrize("secret", [None, Secret("")])
def test_te3_a_missing_secret_is_a_configuration_error(method: ClientAuth, secret: Secret | None) -> None:
    with pytest.raises(ConfigurationError, match="needs a client_secret"):
        method("id", secret)


def test_te3_a_superfluous_secret_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="sends no secret"):
        none("id", SECRET)


@pytest.mark.parametrize("method", CLIENT_AUTH_METHODS.values())
def test_te3_an_empty_client_id_is_a_configuration_error(method: ClientAuth) -> None:
    with pytest.raises(ConfigurationError, match="client_id is empty"):
        method("", None if method is none else SECRET)


def test_te3_a_colon_in_the_id_cannot_be_sent_raw() -> None:
    with pytest.raises(ConfigurationError, match="':'"):
        client_secret_basic_raw("a:b", SECRET)


@pytest.mark.parametrize("method", [client_secret_basic, client_secret_basic_raw])
def test_sh9_a_secret_that_utf8_cannot_encode_is_refused_and_not_shown(method: ClientAuth) -> None:
    with pytest.raises(ConfigurationError, match="lone surrogate") as caught:
        method("id", Secret("CANARY-client-secret-2\udc80"))
    assert caught.value.__context__ is None


def test_te3_methods_by_name() -> None:
    for name, method in CLIENT_AUTH_METHODS.items():
        assert client_auth_named(name) is method is getattr(client_auth_module, name)
    with pytest.raises(ConfigurationError, match="none, client_secret_basic, client_secret_basic_raw, client_secret_post"):
        client_auth_named("private_key_jwt")

"""ID tokens that were validated before and are read again, to compare a refreshed one with them (TE-14)."""

from __future__ import annotations

import pytest

from pauth.core.id_token import IdTokenClaims, decode_claims, names_another
from pauth.errors import ConfigurationError
from pauth.secret import Secret
from tests.core.id_token_kit import CLIENT_ID, ISSUER, SUBJECT, claims, token


def decoded(**changes: object) -> IdTokenClaims | None:
    return decode_claims(token(**changes), issuer=ISSUER, issuer_aliases=["as.example"])


def test_te14_a_stored_id_token_is_read_as_it_is() -> None:
    found = decoded()
    assert found is not None
    assert (found.issuer, found.subject, found.audience) == (ISSUER, SUBJECT, (CLIENT_ID,))
    assert dict(found.claims) == claims()


def test_id2_an_alias_of_the_issuer_is_written_as_the_issuer() -> None:
    found = decoded(iss="as.example")
    assert found is not None
    assert found.issuer == ISSUER
    with pytest.raises(ConfigurationError, match="issuer_aliases"):
        decode_claims(token(), issuer=ISSUER, issuer_aliases="as.example")


@pytest.mark.parametrize("changes", [{"sub": 7}, {"iss": ["https://as.example"]}])
def test_one_that_names_nobody_is_not_read(changes: dict[str, object]) -> None:
    assert decoded(**changes) is None


def test_one_that_is_no_jwt_is_not_read() -> None:
    assert decode_claims(Secret("CANARY-not-a-jwt"), issuer=ISSUER) is None


def test_te14_another_subject_or_issuer_is_another_user() -> None:
    before = decoded()
    assert before is not None
    assert not names_another(decoded(), before)
    assert not names_another(decoded(iss="as.example"), before)
    assert not names_another(None, before)
    assert names_another(decoded(sub="CANARY-somebody-else"), before)
    assert names_another(decoded(iss="https://other.example"), before)

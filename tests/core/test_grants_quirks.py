"""The quirk record: its defaults are the RFCs' behaviour, and its helpers."""

from __future__ import annotations

from typing import Any

import pytest

from pauth.core.quirks import ErrorPattern, Quirks, RevocationStyle, Rotation, RotationClass, UserInfoMapping, authorization_scope, find_member


def test_defaults_conform() -> None:
    quirks = Quirks()
    assert (quirks.scope_separator, quirks.scope_parameter, quirks.authorization_params) == (" ", "scope", ())
    assert quirks.pkce
    assert quirks.nonce
    assert quirks.refresh_style.value == "refresh_token"
    assert quirks.revocation_style is RevocationStyle.RFC7009
    assert not (quirks.form_responses or quirks.zero_lifetime_is_forever or quirks.error_object)
    assert quirks.userinfo == UserInfoMapping((("sub",),), ("email",), ("email_verified",), (("name",),), ("picture",))


def test_reliability_rule_1_an_unknown_server_revokes_the_family() -> None:
    assert Rotation().class_ is RotationClass.RSF
    assert Rotation().grace is None


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ((), {"a": {"b": 1}, "c": None}),
        (("a",), {"b": 1}),
        (("a", "b"), 1),
        (("a", "x"), None),
        (("c",), None),
        (("c", "d"), None),
        (("a", "b", "c"), None),
    ],
)
def test_find_member(path: tuple[str, ...], found: Any) -> None:
    assert find_member({"a": {"b": 1}, "c": None}, path) == found


def test_error_patterns() -> None:
    assert ErrorPattern("a").matches("a", None)
    assert ErrorPattern("a").matches("a", "any")
    assert not ErrorPattern("a").matches("b", None)
    assert not ErrorPattern("a").matches(None, None)
    assert ErrorPattern("a", "was invalid").matches("a", "it was invalid.")
    assert not ErrorPattern("a", "was invalid").matches("a", None)
    assert not ErrorPattern("a", "was invalid").matches("b", "it was invalid.")


def test_authorization_scope() -> None:
    fixed = (("access_type", "offline"),)
    assert authorization_scope(Quirks(), ["a", "b"]) == (("a", "b"), ())
    assert authorization_scope(Quirks(authorization_params=fixed), ["a"]) == (("a",), fixed)
    renamed = Quirks(authorization_params=fixed, scope_parameter="user_scope", scope_separator=",")
    assert authorization_scope(renamed, ["a", "b"]) == ((), (*fixed, ("user_scope", "a,b")))
    assert authorization_scope(renamed, []) == ((), fixed)

from __future__ import annotations

import email.utils
import re
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pauth.core.wire import MAX_RETRY_AFTER, is_json_type, media_type, parse_retry_after, safe_text
from pauth.secret import Secret

NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Token has been revoked.", "Token has been revoked."),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),  # printable; whoever makes HTML escapes it
        ("a\r\nSet-Cookie: x", "a  Set-Cookie: x"),
        ("\x1b[31mred\x9b0m\x07\x00\x7f", "?[31mred?0m???"),
        ("user\u202egnp.exe\u2066\u200f\ufeff", "user?gnp.exe???"),
        ('he said "no" \\ yes', "he said 'no' ? yes"),
        ("déjà vu \ud800", "d?j? vu ?"),
        (" \t\n ", None),
        ("", None),
        (None, None),
        (42, None),
        (b"bytes", None),
        ({"message": "x"}, None),
    ],
)
def test_ax10_na9_text_of_servers_is_made_printable(value: object, text: str | None) -> None:
    assert safe_text(value) == text


def test_ax10_sh9_text_is_cut() -> None:
    assert safe_text("x" * (1 << 20)) == "x" * 200
    assert safe_text("x" * 300, limit=100) == "x" * 100


def test_sh9_a_known_secret_is_masked_also_when_encoded_or_cut() -> None:
    secret = Secret("CANARY a:b%+é/1")
    raw = secret.reveal()
    assert safe_text(f"bad token {raw}!", secrets=[secret]) == "bad token [redacted]!"
    for form in (quote(raw, safe=""), quote_plus(raw)):
        assert safe_text(f"<{form}>", secrets=[secret]) == "<[redacted]>"
    assert safe_text("x" * 195 + raw, secrets=[secret]) == "x" * 195 + "[reda"


def test_sh9_a_secret_is_masked_in_either_case_of_percent_encoding() -> None:
    secret = Secret("CANARY+/é=")
    for encoded in ("CANARY%2B%2F%C3%A9%3D", "CANARY%2b%2f%c3%a9%3d"):
        assert safe_text(f"bad token {encoded}", secrets=[secret]) == safe_text(f"bad token {secret.reveal()}", secrets=[secret])


def test_sh9_a_secret_that_contains_another_is_masked_whole() -> None:
    short, long = Secret("CANARY-1"), Secret("CANARY-12345")
    assert safe_text("CANARY-12345 CANARY-1", secrets=[short, long]) == "[redacted] [redacted]"


def test_sh9_an_empty_secret_masks_nothing() -> None:
    assert safe_text("text", secrets=[Secret("")]) == "text"


def test_sh9_a_secret_with_a_lone_surrogate_is_masked() -> None:
    assert safe_text("x CANARY\ud800 y", secrets=[Secret("CANARY\ud800")]) == "x [redacted] y"


@given(st.text(max_size=400), st.text(min_size=8, max_size=20), st.integers(10, 200))
def test_ax10_sh9_whatever_the_server_says_is_short_printable_and_without_the_secret(text: str, secret: str, limit: int) -> None:
    safe = safe_text(text + secret + text, secrets=[Secret(secret)], limit=limit)
    assert safe is None or (len(safe) <= limit and re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", safe))
    assert safe is None or not secret.isascii() or not secret.isalnum() or secret in text or secret in "[redacted]" or secret not in safe


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        (" 120\t", 120.0),
        ("86401", MAX_RETRY_AFTER),
        ("9" * 60, MAX_RETRY_AFTER),
        ("9" * 6000, None),
        ("-5", None),
        ("+5", None),
        ("1.5", None),
        ("1e3", None),
        ("\uff13", None),
        ("²", None),
        ("1_0", None),
        ("soon", None),
        ("Fri, 15 Jan 2027 08:02:00 GMT", 120.0),
        ("Friday, 15-Jan-27 08:02:00 GMT", 120.0),
        ("Fri Jan 15 08:02:00 2027", 120.0),
        ("Fri, 15 Jan 2027 08:02:00 -0000", 120.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("Fri, 15 Jan 2099 08:00:00 GMT", MAX_RETRY_AFTER),
        ("Fri, 32 Jan 2027 08:00:00 GMT", None),
        ("Fri, 15 Jan 99999 08:00:00 GMT", None),
        ("Fri, 15 Jan 99999999999999999999 08:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -9999", None),
    ],
)
def test_te8_retry_after_in_both_its_forms(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=NOW) == seconds


@given(st.text(max_size=70) | st.text(alphabet="0123456789:+-, JanFriGMT", max_size=70))
def test_te8_any_retry_after_gives_a_bounded_wait_or_none(value: str) -> None:
    seconds = parse_retry_after(value, now=NOW)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


@given(st.integers(0, 86_400))
def test_te8_a_date_is_as_good_as_a_number(seconds: int) -> None:
    assert parse_retry_after(email.utils.formatdate(NOW + seconds, usegmt=True), now=NOW) == seconds


@pytest.mark.parametrize("ahead", [0, 3600, -3600, 400 * 86_400])
@pytest.mark.parametrize("seconds", [0, 30, 7200])
def test_p11_a_date_counts_from_the_servers_own_clock(seconds: int, ahead: int) -> None:
    """Which may be wrong, as ours may: what it asks for is a wait."""
    date, until = (email.utils.formatdate(NOW + ahead + more, usegmt=True) for more in (0, seconds))
    assert parse_retry_after(until, now=NOW, date=f" {date} ") == seconds


@pytest.mark.parametrize("date", ["", "soon", "Fri, 32 Jan 2027 08:00:00 GMT", "9" * 100, "\uff13"])
def test_p11_a_date_header_that_makes_no_sense_is_none(date: str) -> None:
    assert parse_retry_after("Fri, 15 Jan 2027 08:02:00 GMT", now=NOW, date=date) == 120.0
    assert parse_retry_after("120", now=NOW, date=date) == 120.0


@pytest.mark.parametrize(
    ("header", "media", "is_json"),
    [
        ("application/json", "application/json", True),
        ("Application/JSON ; charset=UTF-8", "application/json", True),
        ("application/problem+json", "application/problem+json", True),
        ("text/html", "text/html", False),
        ("text/x+json", "text/x+json", False),
        ("application/jsonp", "application/jsonp", False),
        ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded", False),
        ("", "", False),
    ],
)
def test_te4_media_types(header: str, media: str, is_json: bool) -> None:
    assert media_type({"content-type": header}) == media
    assert is_json_type(media) is is_json


def test_te4_no_media_type() -> None:
    assert media_type({}) == ""

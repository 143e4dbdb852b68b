"""SH-7: what stands for a token or a user in events is keyed, so it can neither be read nor found by trying."""

from __future__ import annotations

import re
from hashlib import blake2b, sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pauth.errors import ConfigurationError
from pauth.events import EventStream
from pauth.secret import Secret

KEY = b"CANARY-key-0123456789abcdef"
STREAM, TWIN, STRANGER = EventStream(fingerprint_key=KEY), EventStream(fingerprint_key=KEY), EventStream()
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


def test_the_test_vector() -> None:
    """Fingerprints of processes with the same key, and of later releases, are the same."""
    assert STREAM.fingerprint("alice") == "e296ce3f39c0f6de"


@given(ANY_TEXT, ANY_TEXT)
def test_a_fingerprint_is_of_the_text_and_the_key(one: str, other: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", STREAM.fingerprint(one))
    assert STREAM.fingerprint(one) == TWIN.fingerprint(one) == STREAM.fingerprint(Secret(one))
    assert (STREAM.fingerprint(one) == STREAM.fingerprint(other)) is (one == other)
    assert STREAM.fingerprint(one) != STRANGER.fingerprint(one)


def test_without_the_key_nothing_can_be_tried() -> None:
    for plain in (sha256(b"alice").hexdigest()[:16], blake2b(b"alice", digest_size=8).hexdigest()):
        assert plain not in {STREAM.fingerprint("alice"), STRANGER.fingerprint("alice")}
    assert EventStream().fingerprint("alice") != EventStream().fingerprint("alice"), "two random keys"


def test_a_key_may_be_a_secret_and_of_any_length_from_16_bytes() -> None:
    text = KEY.decode()
    assert EventStream(fingerprint_key=Secret(text)).fingerprint("alice") == STREAM.fingerprint("alice")
    long = [EventStream(fingerprint_key=KEY * 10 + end).fingerprint("alice") for end in (b"a", b"b")]
    assert len(set(long)) == 2, "every byte of a long key counts"
    EventStream(fingerprint_key=b"0123456789abcdef")


@pytest.mark.parametrize("key", [b"", b"0123456789abcde", Secret("0123456789abcde"), "0123456789abcdef", bytearray(16), 7])
def test_what_is_no_key_is_refused(key: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"at least 16 random bytes, such as secrets\.token_bytes\(32\)"):
        EventStream(fingerprint_key=key)

"""The tree of errors: it is drawn as it is, and every error survives the trip to another process."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import pytest

import pauth
from pauth import errors
from pauth.errors import PAuthError, ProviderUnavailable, ReauthorizationRequired, Remedy

ERRORS: list[type[PAuthError]] = [
    member for member in vars(errors).values() if isinstance(member, type) and issubclass(member, PAuthError) and member.__module__ == errors.__name__
]
LINE = re.compile(r"    (?P<indent>[│ ├└─]*)(?P<name>[A-Z]\w+)(?:  +(?P<rest>.*))?")


def drawn() -> dict[str, tuple[str | None, str]]:
    """The docstring's tree: the parent of each error, and what stands beside it."""
    found: dict[str, tuple[str | None, str]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = LINE.fullmatch(line)
        if match is not None:
            del path[len(match["indent"]) // 4 :]
            found[match["name"]] = (path[-1] if path else None, match["rest"] or "")
            path.append(match["name"])
    return found


def test_the_tree_is_drawn_as_it_is() -> None:
    real = {error.__name__: error.__bases__[0].__name__ if error is not PAuthError else None for error in ERRORS}
    assert {name: parent for name, (parent, _) in drawn().items()} == real
    assert list(drawn()) == sorted(drawn(), key=list(real).index)  # and in the order of the file


def test_the_remedies_in_the_drawing_are_those_of_the_classes() -> None:
    told = {name: remedy for name, (_, rest) in drawn().items() for remedy in Remedy if rest.endswith(f"  {remedy.value}")}
    assert len(told) > 10
    assert told == {name: getattr(errors, name).remedy for name in told}
    for name in ("RecordTampered", "UnknownEncryptionKey", "UnsupportedRecord"):  # under their parent's
        assert getattr(errors, name).remedy is Remedy.FIX_CONFIGURATION


def test_every_error_is_public_in_its_module_and_says_what_it_means() -> None:
    assert sorted([*(error.__name__ for error in ERRORS), "Remedy"]) == errors.__all__
    assert [error.__name__ for error in ERRORS if not error.__doc__] == []
    for name in set(errors.__all__) & set(pauth.__all__):
        assert getattr(pauth, name) is getattr(errors, name)


def test_no_error_derives_from_two() -> None:
    assert all(len(error.__bases__) == 1 for error in ERRORS)
    assert PAuthError.__bases__ == (Exception,)


def full(cls: type[PAuthError]) -> PAuthError:
    """An error with everything that its class can carry."""
    more: dict[str, Any] = {"error": "some_code", "error_description": "some text", "status": 418, "retry_after": 7.5}
    if issubclass(cls, ReauthorizationRequired):
        more = {"reason": "revoked", "error": "some_code", "status": 418}
    elif issubclass(cls, ProviderUnavailable):
        more["request_sent"] = False
    else:
        more["remedy"] = next(remedy for remedy in Remedy if remedy is not cls.remedy)
    error = cls("what happened; what to do", **more)
    error.add_note("a note")
    return error


@pytest.mark.parametrize("cls", ERRORS)
@pytest.mark.parametrize("how", [*(f"pickle {protocol}" for protocol in range(pickle.HIGHEST_PROTOCOL + 1)), "copy", "deepcopy"])
def test_every_error_pickles_and_copies_with_its_attributes(cls: type[PAuthError], how: str) -> None:
    error = full(cls)
    if how.startswith("pickle"):
        twin: PAuthError = pickle.loads(pickle.dumps(error, int(how.split()[1])))
    else:
        twin = getattr(copy, how)(error)
    assert twin is not error
    assert type(twin) is cls
    assert (twin.args, str(twin), repr(twin)) == (error.args, str(error), repr(error))
    assert vars(twin) == vars(error)
    assert (twin.remedy, twin.retryable) == (error.remedy, error.retryable)
    assert (twin.__notes__, twin.__traceback__, twin.__cause__) == (["a note"], None, None)


@pytest.mark.parametrize("cls", ERRORS)
def test_what_an_error_carries_by_default(cls: type[PAuthError]) -> None:
    error = cls("text", reason="revoked") if cls is ReauthorizationRequired else cls("text")
    assert (error.error, error.error_description, error.status, error.retry_after) == (None, None, None, None)
    assert error.retryable is (error.remedy is Remedy.RETRY) is (cls.remedy is Remedy.RETRY)
    assert str(error) == error.message == "text"
    if isinstance(error, ProviderUnavailable):
        assert error.request_sent  # who does not know has to assume it


def test_the_remedy_of_one_error_is_not_that_of_its_class() -> None:
    error = errors.TokenError("text", remedy=Remedy.RETRY)
    assert error.retryable
    assert not errors.TokenError("text").retryable

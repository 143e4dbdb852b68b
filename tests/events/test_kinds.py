"""The events themselves: frozen, typed, documented, and showing neither a secret nor a user id (SH-1, P17)."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import logging
import pickle
import traceback
import typing
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pauth.events
from pauth.events import EVENTS, AttemptEvent, Event, TokenIssued, UserEvent
from tests.events.kit import NOW, SAMPLES, USER_ID, refreshed
from tests.support.canary import excerpt

KINDS = list(SAMPLES)
SINKS: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "f-string": lambda event: f"{event} {event!r}",
    "percent": lambda event: "%s" % event,  # noqa: UP031
    "to_dict": lambda event: repr(event.to_dict()),
    "json": lambda event: json.dumps(event.to_dict()),
    "json default": lambda event: json.dumps([event], default=str),
}


def test_every_class_has_a_sample_and_stands_in_the_list() -> None:
    classes = [each for _, each in inspect.getmembers(pauth.events, inspect.isclass) if issubclass(each, Event)]
    leaves = {each for each in classes if not each.__subclasses__()}
    assert set(EVENTS) == leaves == {type(sample) for sample in SAMPLES.values()}
    assert [each.kind for each in EVENTS] == KINDS
    assert len(set(KINDS)) == len(EVENTS)


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("kind", KINDS)
def test_sh1_no_way_of_printing_shows_the_user_id(kind: str, sink: str) -> None:
    shown = SINKS[sink](SAMPLES[kind])
    assert shown
    assert excerpt(shown) is None


@pytest.mark.parametrize("kind", KINDS)
def test_sh5_a_traceback_with_locals_shows_no_user_id(kind: str) -> None:
    def fail(value: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fail(SAMPLES[kind])
    assert excerpt("".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_sh4_an_event_cannot_be_pickled(kind: str, protocol: int) -> None:
    with pytest.raises(TypeError, match=r"to_dict\(\)") as caught:
        pickle.dumps(SAMPLES[kind], protocol)
    assert excerpt(repr(caught.value)) is None


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_is_frozen_slotted_named_and_its_own_copy(kind: str) -> None:
    event: Any = SAMPLES[kind]
    assert not hasattr(event, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.at = 0.0
    with pytest.raises(TypeError, match="positional"):
        type(event)(NOW)
    assert copy.copy(event) is event
    assert copy.deepcopy([event])[0] is event
    assert event == dataclasses.replace(event)
    assert hash(event) == hash(dataclasses.replace(event))
    assert event != dataclasses.replace(event, at=NOW + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_to_dict_gives_what_the_event_says_as_json(kind: str) -> None:
    event = SAMPLES[kind]
    members = event.to_dict()
    assert json.loads(json.dumps(members)) == members
    expected = {each.name for each in dataclasses.fields(event)} - {"user_id"}
    assert set(members) == expected | {"kind"}
    assert members.pop("kind") == kind
    said: dict[str, Any] = {name: getattr(event, name) for name in expected}
    assert members == said | ({"scope": ["read", "write"]} if "scope" in said else {})


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_every_event_and_each_of_its_fields_is_documented_and_typed(event: type[Event]) -> None:
    when, _, operator = (inspect.getdoc(event) or "").partition("\n\n")
    assert when.endswith(".")
    assert operator.startswith("Operator: ")
    assert event.level in {logging.INFO, logging.WARNING, logging.ERROR}
    assert typing.get_type_hints(event)
    source = "".join(inspect.getsource(each) for each in event.__mro__ if issubclass(each, Event))
    assert [each.name for each in dataclasses.fields(event) if not _documented(source, each.name)] == []


def _documented(source: str, name: str) -> bool:
    lines = source.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith(f"    {name}: ")]
    return lines[at + 1].lstrip().startswith('"""')


def test_p20_what_belongs_to_an_attempt_names_it() -> None:
    with_attempts = {kind for kind, event in SAMPLES.items() if isinstance(event, AttemptEvent)}
    assert with_attempts == {
        "token_refreshed",
        "refresh_failed",
        "ambiguous_refresh",
        "storage_conflict",
        "lease_lost",
        "token_unsaved",
        "token_recovered",
    }
    assert all(SAMPLES[kind].to_dict()["attempt_id"].startswith("a-") for kind in with_attempts)
    about_users = {kind for kind, event in SAMPLES.items() if isinstance(event, UserEvent)}
    assert set(KINDS) - about_users == {"breaker_opened", "breaker_closed", "key_rotated", "store_scanned"}


def test_the_user_id_is_there_for_who_asks() -> None:
    assert refreshed().user_id == USER_ID


@given(st.text(), st.lists(st.text()), st.floats(allow_nan=False, allow_infinity=False))
def test_to_dict_survives_json_whatever_it_holds(text: str, scope: list[str], at: float) -> None:
    event = TokenIssued(at=at, namespace=text, user=text, user_id="CANARY" + text, token=text, scope=tuple(scope))
    members = json.loads(json.dumps(event.to_dict()))
    assert members == {"kind": "token_issued", "at": at, "namespace": text, "user": text, "token": text, "scope": scope, "expires_at": None}

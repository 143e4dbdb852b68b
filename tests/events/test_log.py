"""Each event is one line on the logger ``pauth.events``, unless that is switched off."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pauth.events import Event, EventStream, RefreshFailed, log_event
from tests.events.kit import NAMESPACE, NOW, SAMPLES, USER_ID
from tests.support.canary import excerpt

LINES = {
    "token_issued": 'token_issued namespace=\'["https://login.example", "client 1"]\' user=00112233445566aa token=8899aabbccddeeff'
    " scope='read write' expires_at=1700003600.250",
    "refresh_failed": 'refresh_failed namespace=\'["https://login.example", "client 1"]\' user=00112233445566aa attempt_id=a-2 failure=transient'
    " error=ProviderUnavailable seconds=0.500 error_code=temporarily_unavailable status=503 retry_after=30.000 retry_of=a-1 behind_the_scenes=False",
    "key_rotated": "key_rotated namespace='' rewritten=100 failed=1",
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_p17_an_event_is_logged_in_one_line_without_the_user_id(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    event = SAMPLES[kind]
    EventStream().emit(event)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("pauth.events", event.level)
    line = record.getMessage()
    assert line.startswith(f"{kind} namespace=")
    assert line == LINES.get(kind, line)
    assert "\n" not in line
    assert "=None" not in line
    assert vars(record)["pauth_event"] == event.to_dict()
    assert excerpt(line + repr(vars(record))) is None


def test_the_log_can_be_left_out(caplog: pytest.LogCaptureFixture) -> None:
    EventStream(log=False).emit(SAMPLES["token_issued"])
    assert caplog.records == []


def test_a_level_that_is_off_costs_no_line(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.WARNING, "pauth.events")
    made: list[Event] = []

    def to_dict(event: Event) -> dict[str, Any]:
        made.append(event)
        return {}

    monkeypatch.setattr(Event, "to_dict", to_dict)
    log_event(SAMPLES["token_issued"])
    assert (caplog.records, made) == ([], [])
    log_event(SAMPLES["lease_lost"])
    assert (len(caplog.records), made) == (1, [SAMPLES["lease_lost"]])


def failed(error_code: str) -> RefreshFailed:
    return RefreshFailed(
        at=NOW,
        namespace=NAMESPACE,
        user="u",
        user_id=USER_ID,
        attempt_id="a-1",
        failure="permanent",
        error="TokenError",
        error_code=error_code,
        seconds=1.0,
    )


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_what_a_server_names_can_neither_break_the_line_nor_add_to_it(code: str) -> None:
    lines: list[str] = []

    class Sink(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    sink, logger = Sink(), logging.getLogger("pauth.events")
    logger.addHandler(sink)
    try:
        log_event(failed(code))
    finally:
        logger.removeHandler(sink)
    (line,) = lines
    assert line.isascii()
    assert line.isprintable()
    value = line.partition(" error_code=")[2].removesuffix(" behind_the_scenes=False")
    assert (eval(value) if value[:1] in {"'", '"'} else value) == code


@pytest.mark.parametrize("code", ["x\nroot logged in", "x status=200", "x\x1b[2J", "\u2028y"])
def test_a_forged_line_is_quoted(code: str, caplog: pytest.LogCaptureFixture) -> None:
    log_event(failed(code))
    assert f" error_code={code!a} " in caplog.records[0].getMessage()

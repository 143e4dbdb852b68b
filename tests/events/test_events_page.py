"""docs/events.md lists the events as their classes describe them."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from pathlib import Path

from pauth.events import EVENTS, Event, UserEvent

PAGE = Path(__file__).parents[2] / "docs" / "events.md"
COMMON = {each.name for each in dataclasses.fields(UserEvent)}


def row(event: type[Event]) -> str:
    when, _, operator = (inspect.getdoc(event) or "").partition("\n\n")
    says = ", ".join(f"`{each.name}`" for each in dataclasses.fields(event) if each.name not in COMMON)
    cells = [f"`{event.kind}`", logging.getLevelName(event.level), says, when, operator.removeprefix("Operator: ")]
    return f"| {' | '.join(' '.join(cell.replace('``', '`').split()) for cell in cells)} |"


def test_the_page_has_a_row_for_each_event() -> None:
    text = PAGE.read_text(encoding="utf-8")
    section = text.partition("## All events")[2].partition("\n##")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [row(event) for event in EVENTS], "copy the right side into docs/events.md"


def test_the_class_is_the_kind_in_another_spelling() -> None:
    for event in EVENTS:
        assert event.__name__ == "".join(word.capitalize() for word in event.kind.split("_"))

"""docs/reliability.md names a test for each promise; each of them has to be there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.md"


def test_every_promise_names_tests_and_every_test_named_is_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (P\d+) \|(.*)\|$", text, re.MULTILINE))
    assert list(rows) == [f"P{number}" for number in range(1, 21)]
    assert all(re.search(r"`test_\w+`", row) for row in rows.values())
    defined = {
        name
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", text))
    assert named <= defined, f"no such tests: {sorted(named - defined)}"

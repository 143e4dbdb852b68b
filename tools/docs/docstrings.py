"""Docstrings from reStructuredText, as the code writes them, to Markdown, as the site shows them."""

from __future__ import annotations

import re
from typing import Any, Final

from griffe import Extension, Object

__all__ = ["Docstrings", "markdown_of"]

_ROLE: Final = re.compile(r":[a-z]+:`[~.]*(?P<name>[^`]+)`")
_RULE: Final = re.compile(r"^(?P<first>=+)(?P<gap> +)=+$")


class Docstrings(Extension):
    """Rewrites each docstring before it is read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = markdown_of(obj.docstring.value)


def markdown_of(text: str) -> str:
    """The Markdown of a docstring: roles become code, literal blocks and simple tables what Markdown has for them."""
    lines: list[str] = []
    table: list[str] | None = None
    width = 0
    for line in _ROLE.sub(lambda found: f"`{_short(found['name'])}`", text).splitlines():
        rule = _RULE.match(line)
        if rule is not None and table is None:
            table, width = ["| | |", "| --- | --- |"], rule.start() + len(rule["first"] + rule["gap"])
        elif rule is not None and table is not None:
            lines, table = [*lines, *table], None
        elif table is not None:
            left, right = line[:width].strip(), line[width:].strip()
            if right or not table[2:]:
                table.append(f"| {left} | {right} |")
            else:  # the text of a cell goes on
                table[-1] = table[-1].replace(" | ", f" {left} | ", 1)
        elif line.strip() != "::":
            lines.append(line[:-1] if line.endswith("::") and not line.startswith(" ") else line)
    return "\n".join(lines)


def _short(name: str) -> str:
    """A name as a reader knows it: without the modules before it, and of a method with its class."""
    parts = name.split(".")
    return ".".join(part for number, part in enumerate(parts) if number == len(parts) - 1 or part[:1].isupper()) or name

"""The code blocks of a Markdown file.

- A fence ```` ```python ```` is run. The blocks of one file share their names, in order; `await` may stand at the top level.
- A fence ```` ```python check ```` is not run (it has no end, or needs a real provider): it is type-checked instead, alone.
- An HTML comment that begins with `<!-- python` holds code that runs like a block but is not shown: what the page takes as given.

Other fences (shell, text) are for the reader only.
"""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_BLOCK: Final = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```[ \t]*$|^<!-- python\n(?P<hidden>.*?)^-->", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Block:
    """One block of Python, and where it stands."""

    file: Path
    line: int
    """The line of its first code line, from 1."""

    code: str
    run: bool


class UnknownFence(ValueError):
    """A ```` ```python ```` fence with words after it that mean nothing here."""


def blocks_of(file: Path) -> list[Block]:
    """The Python blocks of a file, in order.

    :raises UnknownFence: a fence says ``python`` and something else than ``check``.
    """
    text = file.read_text(encoding="utf-8")
    blocks: list[Block] = []
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start()) + 2
        if found["hidden"] is not None:
            blocks.append(Block(file, line, found["hidden"], run=True))
            continue
        language, *words = found["info"].split() or [""]
        if language not in {"python", "py", "python3"}:
            continue
        if language != "python" or words not in ([], ["check"]):
            raise UnknownFence(f"{file.name}:{line - 1}: write ```python or ```python check, not ```{found['info']}")
        indent = len(found["indent"])
        code = "".join(row[indent:] if row.strip() else "\n" for row in found["code"].splitlines(keepends=True))
        blocks.append(Block(file, line, code, run=not words))
    return blocks


async def run_block(block: Block, namespace: dict[str, Any]) -> None:
    """Run a block in ``namespace``. Tracebacks name the Markdown file and its line."""
    source = "\n" * (block.line - 1) + block.code
    compiled = compile(source, str(block.file), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    result = eval(compiled, namespace)
    if inspect.isawaitable(result):
        await result

"""What README.md and docs/ show, works: their code is run, or type-checked where it cannot run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from mypy import api as mypy

from pauth import EncryptionKey
from tests.support.doc_blocks import Block, UnknownFence, blocks_of, run_block

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
CHECKED = [block for page in PAGES for block in blocks_of(page) if not block.run]


@pytest.mark.plaintext_files
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
async def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks run in an empty folder, with a storage URL and an encryption key in the environment, and leave behind what they like."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAUTH_STORAGE_URL", "sqlite:///tokens.db")
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", EncryptionKey.generate().to_string().reveal())
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.run:
            await run_block(block, namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_to_files(page: Path) -> None:
    """In the repository, not only in the built site."""
    targets = [target.partition("#")[0] for target in LINK.findall(page.read_text(encoding="utf-8"))]
    assert [target for target in targets if not target.startswith(("https:", "http:")) and not (page.parent / target).exists()] == []


def test_the_code_that_is_only_shown_is_typed_right(tmp_path: Path) -> None:
    for number, block in enumerate(CHECKED):
        (tmp_path / f"block_{number}.py").write_text(block.code, encoding="utf-8")
    if CHECKED:
        config = ["--config-file", "", "--strict", "--python-version", "3.11", "--cache-dir", str(tmp_path / "cache")]
        # a page shows parts of a program: their functions need no annotations
        output, errors, status = mypy.run(
            [*config, "--allow-untyped-defs", "--allow-untyped-calls", "--ignore-missing-imports", *map(str, tmp_path.glob("block_*.py"))]
        )
        where = "\n".join(f"block_{number}.py is {block.file.name}:{block.line}" for number, block in enumerate(CHECKED))
        assert status == 0, f"{output}{errors}\n{where}"


PAGE = """\
# A page

```python
import asyncio
first = 1
```

```console
$ not python
```

<!-- python
hidden = first + 1
-->

- in a list

  ```python
  await asyncio.sleep(0)

  third = hidden + 1
  ```

```python check
undefined_name
```
"""


async def test_blocks_share_names_and_may_await(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    blocks = blocks_of(page)
    assert [(block.line, block.run) for block in blocks] == [(4, True), (13, True), (19, True), (25, False)]
    namespace: dict[str, Any] = {}
    for block in blocks[:3]:
        await run_block(block, namespace)
    assert namespace["third"] == 3


async def test_a_failing_block_names_its_line_in_the_page(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        await run_block(Block(tmp_path / "page.md", 7, "x = 1\nx / 0\n", run=True), {})
    assert caught.traceback[-1].lineno + 1 == 8


def test_an_unknown_word_after_python_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python norun\n```\n", encoding="utf-8")
    with pytest.raises(UnknownFence, match=r"page\.md:1"):
        blocks_of(page)

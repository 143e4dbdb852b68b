"""Takes the picture of ``pauth demo`` for README.md and the documentation: ``python tools/demo_svg.py``, from the folder of the project.

Everything in it is from a run. What a run has of its own (the port, the seconds) is in it too, so there is no ``--check``.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from pauth.cli.demo import run_demo

PICTURE: Final = Path(__file__).resolve().parents[1] / "docs" / "assets" / "demo.svg"
THEME: Final = TerminalTheme(
    (17, 24, 39),
    (229, 231, 235),
    [(31, 41, 55), (248, 113, 113), (74, 222, 128), (250, 204, 21), (96, 165, 250), (192, 132, 252), (34, 211, 238), (229, 231, 235)],
)
_FONT_FACES: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def picture(callers: int = 1000) -> str:
    """Run the demo, and draw what it tells. The fonts are the reader's own: nothing is fetched."""
    console = Console(record=True, width=120, file=io.StringIO(), force_terminal=True, color_system="truecolor", legacy_windows=False)
    console.print("[bold]$ pauth demo[/]")
    run_demo(console, callers=callers)
    svg = console.export_svg(title="pauth demo", theme=THEME, unique_id="demo")
    return _FONT_FACES.sub("", svg).replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono")


def main() -> None:
    """Write the file."""
    PICTURE.write_text(picture(), encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()

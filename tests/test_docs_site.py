"""The documentation's site: it builds without a warning and without the network, has every public name, and every error its section."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import socket
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pauth.errors
from tests.support.doc_blocks import blocks_of

pytest.importorskip("mkdocs", reason="the oldest versions are tested without the tools of the site")

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CONFIG = ROOT / "tools" / "docs" / "mkdocs.yml"


def tool(name: str) -> ModuleType:
    """A module of tools/docs, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", CONFIG.parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = tool("hooks")
markdown_of = tool("docstrings").markdown_of


class _Page(HTMLParser):
    """What a page has: ids to link to, and addresses that it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if found := values.get("id"):
            self.ids.add(found)
        for name in ("src", "href") if tag in {"script", "link", "img", "iframe"} else ():
            if values.get(name) and values.get("rel") != "canonical":
                self.loads.append(values[name] or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with warnings as errors and with every name that is not this machine's unknown."""
    folder = tmp_path_factory.mktemp("site")
    # A process that resolves no names cannot fetch anything; what tries to fails the build.
    program = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise SystemExit(f'the build wants to connect: {a[:2]}')\n"
        "socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse\n"
        "from mkdocs.__main__ import cli\n"
        f"cli(['build', '--strict', '-f', {str(CONFIG)!r}, '-d', {str(folder)!r}])\n"
    )
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    built = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stdout + built.stderr
    return folder


def page(site: Path, name: str) -> _Page:
    return _Page((site / name / "index.html").read_text(encoding="utf-8"))


MODULES = [name for name in hooks.PACKAGES if name in hooks.reference_pages() or f"{name}.md" in hooks.reference_pages()]


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_has_every_public_name(site: Path, module: str) -> None:
    found = page(site, f"reference/{module}")
    wanted = {f"{module}.{name}" for name in importlib.import_module(module).__all__}
    assert wanted - found.ids == set()


@pytest.mark.parametrize("package", ["pauth", "pauth.errors", "pauth.storage", "pauth.importers", "pauth.providers", "pauth.testing"])
def test_the_reference_has_every_public_package(package: str) -> None:
    assert package in MODULES


def test_methods_have_their_signatures_and_parameters(site: Path) -> None:
    text = (site / "reference" / "pauth" / "index.html").read_text(encoding="utf-8")
    assert "pauth.OAuth2Client.get_authorization_url" in _Page(text).ids
    assert "Begin a login: the URL to send the user" in text
    assert not re.search(r":(?:class|meth|func|attr|data|param|raises)\b", text)  # no reStructuredText is left over


def test_a_page_that_is_not_in_the_navigation_is_put_there(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8") if (site / "index.html").is_file() else ""
    for path in sorted(DOCS.rglob("*.md")):
        name = path.relative_to(DOCS).with_suffix("").as_posix()
        assert name == "index" or f'href="{name}/"' in text, f"{name} cannot be reached"


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    loads = {address for file in site.rglob("*.html") for address in _Page(file.read_text(encoding="utf-8")).loads}
    assert [address for address in loads if re.match(r"(?:[a-z]+:)?//", address)] == []


def test_diagrams_are_left_to_the_reader(site: Path) -> None:
    text = (site / "journeys" / "index.html").read_text(encoding="utf-8")
    assert text.count('<pre class="mermaid">') == 3


def test_diagrams_have_no_semicolon() -> None:
    """It ends a statement in Mermaid, also inside a text, and the diagram is not drawn."""
    diagrams = [found for path in DOCS.rglob("*.md") for found in re.findall(r"```mermaid\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)]
    assert len(diagrams) >= 4
    assert [line for diagram in diagrams for line in diagram.splitlines() if ";" in line] == []


def test_every_error_has_its_section_and_an_example() -> None:
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    names = [name for name in pauth.errors.__all__ if name != "Remedy"]
    assert [name for name in names if f"\n## {name}\n" not in text] == []
    sections = {part.partition("\n")[0]: part for part in text.split("\n## ")[1:]}
    assert sorted(sections) == sorted(names)
    parents = {"ProviderError", "RecordUnreadable"}  # whose examples are those of the next three
    assert [name for name in names if name not in parents and "```python" not in sections[name]] == []
    assert [name for name in names if name not in parents and "**When**" not in sections[name] and name != "PAuthError"] == []
    for name in names:
        remedy: pauth.errors.Remedy = getattr(pauth.errors, name).remedy
        line = next(line for line in text.splitlines() if re.search(rf"── {name}\b", line)) if name != "PAuthError" else ""
        assert not line or "per " in line or line.endswith(name) or line.rstrip().endswith(remedy.value), line


def test_every_reason_to_log_in_again_is_told() -> None:
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    reasons = {
        found
        for path in (ROOT / "pauth").rglob("*.py")
        if "testing" not in path.parts
        for found in re.findall(r'reason="([a-z_]+)"', path.read_text(encoding="utf-8"))
    }
    assert reasons
    assert [reason for reason in sorted(reasons) if f"`{reason}`" not in text] == []


def test_the_modules_that_the_threat_model_names_are_there() -> None:
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+|(?:/[a-z_]+)*\.py))`", (DOCS / "threat-model.md").read_text(encoding="utf-8")))
    assert "core/callback.py" in named
    assert [name for name in named if not (ROOT / "pauth" / name).exists()] == []


def test_the_picture_of_the_demo_is_of_this_demo() -> None:
    """The chapters in it are those that the demo tells, and nothing in it is fetched or of one machine."""
    picture = (DOCS / "assets" / "demo.svg").read_text(encoding="utf-8")
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", picture).replace("&#160;", " "))
    demo = (ROOT / "pauth" / "cli" / "demo.py").read_text(encoding="utf-8")
    for title in re.findall(r'self\.chapter\(f?"([^"{]+)', demo):
        assert title.strip() in words
    assert "url(" not in picture.replace("url(#", "")
    assert socket.gethostname() not in words


# --- the tools themselves


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("See :class:`~pauth.errors.RecordTampered` and :meth:`.Token.extra`.", "See `RecordTampered` and `Token.extra`."),
        (":func:`import_tokens`, :data:`pauth.core.jwks.ALGORITHMS`", "`import_tokens`, `ALGORITHMS`"),
        (":func:`dataclasses.replace`", "`replace`"),
        ("It does this::\n\n    code::\n", "It does this:\n\n    code::"),
        ("First.\n\n::\n\n    code", "First.\n\n\n    code"),
        (
            "===  =====\none  first\n\n     more\ntwo\n===  =====\nafter",
            "| | |\n| --- | --- |\n| one | first |\n| | more |\nafter",
        ),
    ],
)
def test_docstrings_become_markdown(text: str, markdown: str) -> None:
    if "=====" in text:
        lines = markdown_of("=======  =====\n``one``  first\n``two``  second\n``2b``\n=======  =====\nafter").splitlines()
        assert lines == ["| | |", "| --- | --- |", "| ``one`` | first |", "| ``two`` ``2b`` | second |", "after"]
    else:
        assert markdown_of(text) == markdown


def test_a_page_that_is_not_there_is_left_out_of_the_navigation() -> None:
    nav: list[Any] = [{"Home": "index.md"}, {"Guides": [{"One": "one.md"}, {"Two": "two.md"}]}, {"None": ["three.md"]}, "four.md"]
    assert hooks._present(nav, {"index.md", "two.md", "four.md"}) == [{"Home": "index.md"}, {"Guides": [{"Two": "two.md"}]}, "four.md"]


def test_fences_and_links_of_the_repository_are_made_fit() -> None:
    shown = hooks.on_page_markdown("```python check\nx\n```\n[tree](../pauth/errors.py)\n[here](storage.md#keys)", None, None, None)
    assert shown == "```python\nx\n```\n[tree](# 'pauth/errors.py, in the repository')\n[here](storage.md#keys)"


def test_code_blocks_of_the_pages_are_all_of_a_known_kind() -> None:
    kinds = {block.run for path in DOCS.rglob("*.md") for block in blocks_of(path)}
    assert kinds == {True, False}

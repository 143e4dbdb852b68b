"""What MkDocs cannot say in its configuration: the navigation by what is there, the reference from ``__all__``, fences as the tests read them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

__all__ = ["PACKAGES", "on_config", "on_files", "on_page_markdown", "reference_pages"]

PACKAGES: Final = (
    "pauth",
    "pauth.errors",
    "pauth.storage",
    "pauth.importers",
    "pauth.providers",
    "pauth.events",
    "pauth.sync",
    "pauth.integrations.aiohttp",
    "pauth.integrations.fastapi",
    "pauth.integrations.httpx",
    "pauth.integrations.requests",
    "pauth.integrations.opentelemetry",
    "pauth.testing",
)
"""The public modules, in the order of the reference. One that is not there yet is left out."""

_FENCE: Final = re.compile(r"^( *```python) check$", re.MULTILINE)
_OUTSIDE: Final = re.compile(r"\]\(\.\./(?P<path>[A-Za-z_./-]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave out of the navigation what is not there, and put at its end what it does not name."""
    there = {path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir).rglob("*.md")}
    pages = [f"reference/{name}" for name in reference_pages()]
    nav = _present(cast("list[Any]", config.nav or []), {*there, *pages})  # pyright: ignore[reportUnknownMemberType]  # MkDocs says no more than list
    for section in nav:
        if isinstance(section, dict) and "Reference" in section:
            section["Reference"] = pages
    unnamed = sorted(there - set(_named(nav)))
    config.nav = [*nav, *([{"More": unnamed}] if unnamed else [])]
    return config


def _present(nav: Iterable[Any], there: set[str]) -> list[Any]:
    kept: list[Any] = []
    for item in nav:
        if isinstance(item, str):
            kept += [item] if item in there else []
            continue
        ((title, content),) = item.items()
        inner = _present(_listed(content), there)
        if inner:
            kept.append({title: inner if isinstance(content, list) else inner[0]})
    return kept


def _named(nav: Iterable[Any]) -> Iterator[str]:
    for item in nav:
        if isinstance(item, str):
            yield item
        else:
            for content in item.values():
                yield from _named(_listed(content))


def _listed(content: object) -> list[Any]:
    return content if isinstance(content, list) else [content]  # pyright: ignore[reportUnknownVariableType]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference, and leave out what is no page (this folder has none, but a configuration may be put there)."""
    for name, content in reference_pages().items():
        files.append(File.generated(config, f"reference/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show the code of fences that tests only type-check like any other, and files of the repository by their names."""
    del page, config, files
    return _OUTSIDE.sub(r"](# '\g<path>, in the repository')", _FENCE.sub(r"\1", markdown))


def reference_pages() -> dict[str, str]:
    """The Markdown of the reference: a page for each public module, with every name of its ``__all__``."""
    modules = {name: module for name in PACKAGES if (module := _module(name)) is not None}
    home: dict[str, str] = {}
    pages = {"index.md": _index(modules)}
    for name, module in modules.items():
        parts = [f"# {name}\n\n::: {name}\n    options:\n      members: false\n      show_root_heading: false\n      show_root_toc_entry: false\n"]
        for member in module.__all__:
            value = getattr(module, member)
            first = home.setdefault(_identity(value, member), name)
            if member == "__version__":
                parts.append(f'## `{member}`\n\n<span id="pauth.{member}">The version of pauth that is installed</span>, a `str`.\n')
            elif first != name:
                parts.append(f"## `{member}` {{ #{name}.{member} }}\n\nThe same as [`{first}.{member}`]({first}.md#{first}.{member}).\n")
            elif isinstance(value, ModuleType):
                options = "    options:\n      show_root_heading: false\n      heading_level: 3\n"
                parts.append(f"## `{member}` {{ #{name}.{member} }}\n\n::: {value.__name__}\n{options}")
            else:
                parts.append(f"::: {name}.{member}\n")
        pages[f"{name}.md"] = "\n".join(parts)
    return pages


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name is not None and name.startswith(missing.name):
            return None
        raise


def _identity(value: object, member: str) -> str:
    """What makes two names one thing: where it was defined; for what does not say that (a constant, an alias), the value."""
    module, qualified = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    return f"{module}.{qualified}" if qualified and str(module).startswith("pauth.") else f"{member}={value!r}"


def _index(modules: dict[str, ModuleType]) -> str:
    rows = [f"| [`{name}`]({name}.md) | {_first_sentence(module)} | {len(module.__all__)} |" for name, module in modules.items()]
    return "\n".join(
        [
            "# Reference",
            "",
            "Every public name, with its signature and what it raises. What is not here may change without notice.",
            "",
            "| module | what is in it | names |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )


def _first_sentence(module: ModuleType) -> str:
    text = " ".join((module.__doc__ or "").partition("\n\n")[0].split())
    return text.replace("``", "`").replace("|", "\\|")

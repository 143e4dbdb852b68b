"""The tree itself: nothing in it belongs to one machine, files stay readable, users are told what changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SKIPPED = {"__pycache__", "node_modules", "build", "dist", "htmlcov"}
TEXT = {"", ".md", ".py", ".toml", ".txt", ".json", ".mjs", ".js", ".yaml", ".yml", ".typed"}
CI = ROOT / ".ci" / "run"

MAX_LINES = 420  # about 400: past that it is usually two rooms
LONGER: dict[str, int] = {
    "pauth/client.py": 500,  # its methods are signatures and their documentation; the work is done elsewhere
}
"""Files that may be longer than :data:`MAX_LINES`, and how long; each with its reason in a comment."""

# Written in pieces, so that this file does not find itself.
REGISTRIES = [name.replace("_", "") for name in ("py_pi.org", "python_hosted.org", "registry._npmjs.org", "registry._yarnpkg.com", "deb._debian.org")]
MACHINE = re.compile(r"(?<![\w.~>}/-])/(?:home/\w+/|root/|Users/\w+/|wor[k]/|opt/\w+/|tmp/\w)")


def files() -> Iterator[Path]:
    """Every file that is committed, as far as the tree without git can tell."""
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        if path.is_file() and not SKIPPED.intersection(parts) and (not any(part.startswith(".") for part in parts) or path == CI):
            yield path


def text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8") if path.suffix in TEXT else None
    except UnicodeDecodeError:
        return None


def test_no_file_names_a_registry_host() -> None:
    found = [f"{path.relative_to(ROOT)}: {host}" for path in files() for host in REGISTRIES if host in (text_of(path) or "")]
    assert found == []


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [f"{path.relative_to(ROOT)}: {hit.group()}" for path in files() if (hit := MACHINE.search(text_of(path) or ""))]
    assert found == []


def test_the_lock_files_name_no_download_address() -> None:
    assert '"resolved"' not in (ROOT / "tests/servers/oidc_provider/package-lock.json").read_text(encoding="utf-8")
    for name in ("requirements-dev.txt", "requirements-check.txt"):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if "://" in line or line.startswith("-")] == []


def test_files_stay_short() -> None:
    lengths = {str(path.relative_to(ROOT)): (text_of(path) or "").count("\n") for path in files() if path.suffix in {".py", ".mjs"}}
    assert {name: length for name, length in lengths.items() if length > LONGER.get(name, MAX_LINES)} == {}
    assert [name for name in LONGER if lengths.get(name, 0) <= MAX_LINES] == [], "no longer needed in LONGER"


def test_every_package_has_its_init_and_pauth_is_typed() -> None:
    folders = {path.parent for path in (ROOT / "pauth").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []
    assert (ROOT / "pauth" / "py.typed").is_file()


def test_the_changelog_has_a_place_for_what_comes() -> None:
    assert re.search(r"^## \[Unreleased\]$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_ci_runs_what_the_readme_says() -> None:
    command = "python3 tools/check.py"
    assert CI.read_text(encoding="utf-8").rstrip().endswith(f"exec {command}")
    assert re.search(rf"^{command}$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("text", ["see " + "/" + "root/x", "(" + "/" + "home/ann/x", '"' + "/" + "tmp/y"])
def test_the_search_for_machine_paths_finds(text: str) -> None:
    assert MACHINE.search(text)


@pytest.mark.parametrize("text", ["https://host.example/root/x", "~/work/x", "{base}/root/", "tests/tmp/x", "/oauth/token", "file:///" + "tmp/x"])
def test_the_search_for_machine_paths_leaves_urls_alone(text: str) -> None:
    assert not MACHINE.search(text)

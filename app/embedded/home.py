"""Where the services keep their files, and as whom they run.

Postgres refuses to run as root, so root starts it (and Valkey) as `nobody`. `nobody` must then reach the data and the
programs; under a folder that only root may enter it cannot, and both go to the system's persistent temporary folder,
keyed by the path they belong to.
"""

import hashlib
import os
import pwd
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from app.embedded.errors import FolderRefused

PERSISTENT_TEMP = Path("/var/tmp")  # noqa: S108 - it outlives a reboot; `_own_folder` refuses one that another made
SERVICE_ACCOUNT = "nobody"
LINK_NAME = "data-elsewhere"
COPIES_NAME = "programs"


@dataclass(frozen=True, slots=True)
class Account:
    """The user that the servers run as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Home:
    """The folders of one set of services."""

    var: Path
    """Ports, passwords, logs, the sandbox's database; the invoking user's."""
    data: Path
    """Postgres' and Valkey's files; `var` itself unless `account` cannot reach that."""
    account: Account | None
    """None: servers run as the invoking user."""

    @property
    def logs(self) -> Path:
        return self.var / "log"


def is_reachable(path: Path) -> bool:
    """Whether any user may enter every folder on the way to `path`, and `path` itself."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def _own_folder(path: Path) -> Path:
    """Make a folder that others may pass through and only we may change.

    Raises:
        FolderRefused: it exists and another user made it, or it is a link. The name can be guessed, and /var/tmp is
            everybody's.
    """
    try:
        path.mkdir(mode=0o711)
        path.chmod(0o711)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise FolderRefused(f"{path} exists and was not made by this program. Remove it, then try again.") from None
    return path


def _temp_folder(path: Path) -> Path:
    """The name of the persistent temporary folder that belongs to `path`."""
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return PERSISTENT_TEMP / f"fly-billing-{digest}"


def open_home(var: Path) -> Home:
    """The home for `var`, made if need be. Changes nothing above `var`."""
    var = Path(os.path.realpath(var))
    try:
        var.mkdir(mode=0o700, parents=True, exist_ok=True)
        (var / "log").mkdir(mode=0o700, exist_ok=True)
    except PermissionError as error:
        raise FolderRefused(f"{error.filename} cannot be written. Set BILLING_VAR to a folder of your own.") from error
    if not os.access(var, os.W_OK | os.X_OK):
        raise FolderRefused(f"{var} belongs to another user. Set BILLING_VAR to a folder of your own, or remove it.")
    if os.getuid() != 0:
        return Home(var, var, None)
    entry = pwd.getpwnam(SERVICE_ACCOUNT)
    account = Account(entry.pw_uid, entry.pw_gid)
    var.chmod(0o711)
    if is_reachable(var):
        return Home(var, var, account)
    data = _own_folder(_temp_folder(var))
    link = var / LINK_NAME
    link.unlink(missing_ok=True)
    link.symlink_to(data)
    return Home(var, data, account)


def give(path: Path, account: Account | None) -> None:
    """Let the servers' account own `path` itself."""
    if account is not None:
        os.chown(path, account.uid, account.gid)


def reachable_copy(sources: list[Path], home: Home) -> Path:
    """The folder in which `sources` stand so that the servers' account can run them; copied only if it must be.

    Siblings stay siblings: programs find their libraries by a path relative to their own.
    """
    parent = sources[0].parent
    if home.account is None or is_reachable(sources[0]):
        return parent
    folder = _own_folder(home.data / COPIES_NAME)
    fingerprint = "\n".join(f"{source} {source.stat().st_mtime_ns}" for source in sources)
    note = folder / f"{sources[0].name}.copied"
    if not note.exists() or note.read_text() != fingerprint:
        for source in sources:
            shutil.rmtree(folder / source.name, ignore_errors=True)
            shutil.copytree(source, folder / source.name, symlinks=True)
        for found in folder.rglob("*"):
            if not found.is_symlink():
                found.chmod(found.stat().st_mode | (0o555 if found.is_dir() or found.stat().st_mode & 0o100 else 0o444))
        note.write_text(fingerprint)
    return folder


def erase(home: Home, patterns: Iterable[str]) -> None:
    """Delete the matching files and folders of the services, which must be down, and the home if nothing else is in it.

    BILLING_VAR may be a folder that holds other things, so only what we know to be ours goes.
    """
    if home.data != home.var:
        shutil.rmtree(home.data, ignore_errors=True)
    for path in [path for path in home.var.iterdir() if any(path.match(pattern) for pattern in patterns)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if not any(home.var.iterdir()):
        home.var.rmdir()

"""What runs right now, asked of the operating system.

There are no pid files. A pid file outlives a `kill -9` and a reboot, and its number may by then belong to a stranger;
the process table cannot be stale. A service is recognised by its program and by the path of its own data in its words.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Running:
    """A live process. A zombie is not one: it holds nothing but its number."""

    pid: int
    parent_pid: int
    argv: tuple[str, ...]


def _read_linux() -> Iterator[Running]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            argv = (folder / "cmdline").read_bytes()
            # The program's name stands in brackets and may itself hold brackets and spaces: read on from the last one.
            state, parent_pid = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it ended while we looked
            continue
        if state not in "ZX" and argv:
            words = argv.rstrip(b"\0").split(b"\0")
            yield Running(int(folder.name), int(parent_pid), tuple(os.fsdecode(word) for word in words))


def _read_ps() -> Iterator[Running]:
    listing = subprocess.run(
        ["ps", "-axww", "-o", "pid=,ppid=,stat=,command="], capture_output=True, text=True, check=True
    ).stdout
    for line in listing.splitlines():
        pid, parent_pid, state, *command = line.split(None, 3)
        if not state.startswith("Z") and command:
            yield Running(int(pid), int(parent_pid), tuple(command[0].split(" ")))


def read() -> list[Running]:
    """Every live process that we may see."""
    return list(_read_linux() if sys.platform == "linux" else _read_ps())


def find(matches: Callable[[tuple[str, ...]], bool]) -> Running | None:
    """The oldest ancestor among the processes whose words match; a server's forks share its words for a moment."""
    found = {process.pid: process for process in read() if process.pid != os.getpid() and matches(process.argv)}
    roots = [process for process in found.values() if process.parent_pid not in found]
    return min(roots, key=lambda process: process.pid) if roots else None


def is_alive(pid: int) -> bool:
    """Whether the process runs: a zombie does not."""
    return any(process.pid == pid for process in read())


def working_in(folder: Path) -> list[int]:
    """Live processes whose current folder is this one; Linux only, elsewhere none are found."""
    pids: list[int] = []
    for process in read():
        try:
            if Path(f"/proc/{process.pid}/cwd").readlink() == folder:
                pids.append(process.pid)
        except OSError:
            continue
    return pids

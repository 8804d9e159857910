"""A small supervised set for tests: embedded Postgres and Valkey, and programs given on the command line.

    python -m tests.processes.supervised VAR HEALTH_URL NAME=SCRIPT...

Each SCRIPT is Python source that runs as a program of that name.
"""

import os
import sys
from pathlib import Path

from app.embedded import home as homes
from app.embedded import state as states
from app.supervisor import Program, Supervisor


def main(var: str, health_url: str, *programs: str) -> None:
    """Supervise until a signal comes."""
    named = [program.partition("=") for program in programs]
    home = homes.open_home(Path(var))
    with states.supervised(home.var):
        Supervisor(home, ("postgres", "valkey"), {}, out=sys.stdout).run(
            prepare=lambda: [Program(name, [sys.executable, "-uc", source], os.environ) for name, _, source in named],
            health_url=health_url,
            announce=lambda: ["all is up"],
        )


if __name__ == "__main__":
    main(*sys.argv[1:])

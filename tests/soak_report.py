"""The figures of the long runs, said as each part of one ends, and kept in the file that SOAK_REPORT names."""

import json
import os
from pathlib import Path


def add(run: str, part: str, **figures: object) -> None:
    """Say what a part of a long run came to. Nobody waits for the others to end."""
    print(f"\n{run} run of {part}: " + ", ".join(f"{value} {name}" for name, value in figures.items()))
    if "SOAK_REPORT" in os.environ:
        with Path(os.environ["SOAK_REPORT"]).open("a") as file:
            file.write(json.dumps({"run": run, "part": part, **figures}) + "\n")

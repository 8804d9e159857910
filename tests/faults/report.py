"""The figures of the long sweeps, said as each flow ends, and kept in the file that SWEEP_REPORT names."""

import json
import os
from pathlib import Path


def add(sweep: str, flow: str, **figures: int) -> None:
    """Say what a flow's sweep came to."""
    print(f"\n{sweep} sweep of {flow}: " + ", ".join(f"{value} {name}" for name, value in figures.items()))
    if "SWEEP_REPORT" in os.environ:
        with Path(os.environ["SWEEP_REPORT"]).open("a") as file:
            file.write(json.dumps({"sweep": sweep, "flow": flow, **figures}) + "\n")

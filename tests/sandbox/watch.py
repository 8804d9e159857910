"""Holds what every sandbox of a run says, and is told, against Stripe's schema: also those of other areas' tests.

Each worker of the run has a folder, and its environment names it to every sandbox that it or a child of it starts.
After each test what is new in there is judged, so that the test that provoked it fails.
"""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stripe_gateway.sandbox.recorder import EXCHANGES_VARIABLE
from tests.sandbox.contract import Contract, spec_path

ABSENT = "Stripe's OpenAPI file is absent: nothing that the sandbox said was held against it. Set STRIPE_OPENAPI_SPEC."
_SHOWN = 5  # problems named in one failure
_COUNTS = "counts.json"


@dataclass
class Counts:
    """What was judged, for the last lines of the run."""

    exchanges: int = 0
    events: int = 0
    shapes: int = 0
    seconds: float = 0.0
    unjudged: int = 0


@dataclass
class Watch:
    """The watch over one worker's sandboxes."""

    folder: Path
    counts: Counts = field(default_factory=Counts)
    _read: dict[Path, int] = field(default_factory=dict)
    _contract: Contract | None = None

    @classmethod
    def begin(cls, folder: Path) -> "Watch":
        """Have every sandbox that is started from here on write into `folder`."""
        folder.mkdir(parents=True)
        os.environ[EXCHANGES_VARIABLE] = str(folder)
        return cls(folder)

    def look(self) -> None:
        """Judge what was written since the last look.

        Raises:
            AssertionError: naming what Stripe would not have said, or not have accepted.
        """
        new = [line for path in sorted(self.folder.glob("*.jsonl")) for line in self._new_lines(path)]
        if not new:
            return
        started = time.process_time()
        if self._contract is None:
            path = spec_path()
            if path is None:
                self.counts.unjudged += len(new)
                return
            self._contract = Contract(path)
        problems = [problem for line in new if (problem := self._judge(self._contract, json.loads(line)))]
        self.counts.shapes = self._contract.shapes
        self.counts.seconds += time.process_time() - started
        shown = "\n".join(problems[:_SHOWN])
        assert not problems, f"the sandbox and Stripe's schema differ in {len(problems)} places:\n{shown}"

    def end(self) -> None:
        """Leave the counts where `summary` finds them."""
        (self.folder / _COUNTS).write_text(json.dumps(asdict(self.counts)))

    def _new_lines(self, path: Path) -> list[bytes]:
        done = self._read.get(path, 0)
        if path.stat().st_size <= done:
            return []
        with path.open("rb") as file:
            file.seek(done)
            text = file.read()
        # A line that is being written has no end yet: it is the next look's.
        whole = text[: text.rfind(b"\n") + 1]
        self._read[path] = done + len(whole)
        return whole.splitlines()

    def _judge(self, contract: Contract, line: dict[str, Any]) -> str | None:
        try:
            if "event" in line:
                self.counts.events += 1
                contract.check_event(json.loads(line["event"]))
            else:
                self.counts.exchanges += 1
                contract.check_exchange(line)
        except AssertionError as error:
            return str(error)
        return None


def summary(folder: Path) -> str | None:
    """One line about all workers' watches; None when no sandbox ran."""
    found = [Counts(**json.loads(path.read_text())) for path in sorted(folder.glob(f"*/{_COUNTS}"))]
    total = Counts(*(sum(values) for values in zip(*(asdict(counts).values() for counts in found), strict=True)))
    if total.unjudged:
        return ABSENT
    if not total.exchanges + total.events:
        return None
    return (
        f"Stripe's schema: {total.exchanges} kinds of request and answer and {total.events} of webhook body, "
        f"in {total.shapes} shapes, were judged in {total.seconds:.1f} s of computing."
    )

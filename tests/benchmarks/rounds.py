"""Interleaved rounds: every way takes its turn in each round, so that what slows the machine slows them all."""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Way:
    """One way of doing the work. `run` does it for round `n` and answers how many units it did."""

    name: str
    unit: str
    run: Callable[[int], int]
    beside: str | None = None
    """The name of the way that this one is compared with, in the same round."""


@dataclass
class Figures:
    way: Way
    rates: list[float] = field(default_factory=list)
    """Units a second, one figure per round."""

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def spread(self) -> str:
        return f"{min(self.rates):,.0f} - {max(self.rates):,.0f}"

    def ratio_to(self, other: "Figures") -> float:
        """The median over rounds of this rate divided by the other's in the same round."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.rates, other.rates, strict=True))


def measure(ways: list[Way], *, rounds: int) -> dict[str, Figures]:
    """Run every way once unmeasured, to warm up, and then `rounds` times in turn."""
    figures = {way.name: Figures(way) for way in ways}
    for turn in range(rounds + 1):
        for way in ways:
            show(f"round {turn} of {rounds}: {way.name}")
            began = time.perf_counter()
            units = way.run(turn)
            taken = time.perf_counter() - began
            if turn:
                figures[way.name].rates.append(units / taken)
    show("")
    return figures


def show(progress: str) -> None:
    """Overwrite the terminal's last line; print nothing where there is no terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{progress}", end="", file=sys.stderr, flush=True)

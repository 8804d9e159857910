"""What we want to reach, as ratios within one run: a machine's mood then weighs on both sides."""

from dataclasses import dataclass

from tests.benchmarks import compile as compiling
from tests.benchmarks import ledger, rating, singles, volume
from tests.benchmarks.rounds import Figures
from tests.benchmarks.sizes import FULL


@dataclass(frozen=True)
class Goal:
    """`way` is to reach at least `least` times the rate of `beside`; without one, `least` units a minute."""

    text: str
    way: str
    beside: str | None
    least: float

    def reached(self, figures: dict[str, Figures]) -> float:
        if self.beside is None:
            return figures[self.way].rate * 60
        return figures[self.way].ratio_to(figures[self.beside])

    def shown(self, value: float) -> str:
        return f"{value:,.0f}" if self.beside is None else f"{value:.2f}"


GOALS = [
    Goal("batches of 1,000, beside bare INSERTs", ledger.POST, ledger.INSERT, 0.50),
    *(
        Goal(
            f"single entries from {singles.clients_named(count)}, beside bare INSERTs",
            singles.post_name(count),
            singles.insert_name(count),
            0.35,
        )
        for count in FULL.clients
    ),
    Goal("a batch sent again, beside posting it", ledger.REPLAY, ledger.POST, 1.5),
    Goal("usage at flat prices, beside usage that its source rated", rating.FLAT, rating.UNRATED, 0.60),
    Goal("usage at graduated prices, beside usage that its source rated", rating.GRADUATED, rating.UNRATED, 0.60),
    Goal("posting into the filled journal, beside an empty one", volume.INTO_FILLED, ledger.POST, 0.80),
    Goal("posting to the big customer, beside a small one", volume.TO_BIG, volume.TO_SMALL, 0.9),
    Goal(
        "closing for a customer with many entries, beside one with 100", compiling.CLOSE_MANY, compiling.CLOSE_FEW, 0.9
    ),
    Goal("drafts of 12 lines compiled in a minute, one connection", compiling.CLOSE, None, 200_000),
    Goal("reading the big customer's totals, beside a small one's", volume.BIG_TOTAL, volume.SMALL_TOTAL, 0.9),
]

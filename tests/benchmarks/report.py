"""The figures as a page."""

from dataclasses import dataclass
from datetime import date

from tests.benchmarks.goals import GOALS
from tests.benchmarks.ledger import COPY
from tests.benchmarks.rounds import Figures
from tests.benchmarks.volume import SMALL


@dataclass(frozen=True)
class Machine:
    """Where it ran; `load` is the machine's load average when it began."""

    cpus: str
    system: str
    postgres: str
    load: float


HOW = """\
How it is measured: each way takes its turn in every round, so that what else the machine does slows all of them; the
rate is the median over rounds, and a ratio is the median of the ratios within each round. Clients run on the same
machine as Postgres, so both sides of a ratio pay for their own client. Rows are made beforehand where the way into the
database is measured (COPY, INSERT, `ledger.post`); HTTP (within the process, through the whole application), import and
close are measured with everything they do.

- **COPY, bare table**: the journal's columns, no index, no constraint, no trigger; batches of 1,000, each committed.
- **INSERT, bare table and indexes**: the same with the journal's indexes, no constraint, trigger or row-level security;
  one statement for each batch of 1,000, or for each row.
- **ledger.post**: the public function with every check, guard, running total and the locks; the same batches and
  commits. Batches go to 200 customers at once.
- **one by one**: each entry in a transaction of its own, from client processes that start on one word.
- **the filled journal**: a second database in the same cluster, filled through the guards by INSERT ... SELECT; the
  same batches go into both in each round.
- **post_usage**: the public function from the platform's records on, with reading the price book; batches of 1,000 for
  200 customers and 4 items. Flat prices are quantity times price; graduated ones have three tiers, and a batch reads
  and writes 400 counters.
- **compile in plain SQL**: the same drafts and lines from the same totals, into tables with the same indexes and no
  guard.
- **cycle close**: `close_due` with everything it does; the charges are made beforehand. For a customer with a million
  entries `make soak` closes, and counts the rows that Postgres reads.

What stands in the way of more, and why goals that are close are missed in some runs. Of the server's time for a single
entry a profile shows 28 % in the guards' trigger, 21 % in starting statements, 14 % in the commit, and 12 % in CHECKs
(half of them have become types since); the client takes 0.5 ms against 0.24 ms for a bare INSERT, most of it for the
session and the checks of the entry. From 16 clients on two cores all of that competes. In runs of their own, without a
database of millions beside them, 1, 4 and 16 clients reached 0.51, 0.43 and 0.38. Into the filled journal three runs
gave 0.87, 0.83 and 0.77: ids are random, so each entry touches a page of its own in an index of ten million, and the
first touch after a checkpoint writes the whole page to the log (420 pages a batch right after one, 80 a few minutes
later).
"""


def render(
    figures: dict[str, Figures],
    machine: Machine,
    *,
    rounds: int,
    taken_s: float,
    today: date,
    entries: int,
    of_one: int,
) -> str:
    """The whole page, in Markdown."""
    lines = [
        "# Benchmarks",
        "",
        "`make bench` runs them and writes this page. The last run:",
        "",
        f"{today.isoformat()}, {rounds} rounds in {taken_s:.0f} s. {machine.cpus}; {machine.system}; "
        f"Postgres {machine.postgres}; load average at the start {machine.load:.1f}.",
        "",
        "| goal | at least | reached |",
        "|---|---:|---:|",
        *(f"| {goal.text} | {goal.shown(goal.least)} | {goal.shown(goal.reached(figures))} |" for goal in GOALS),
        "",
        f"The filled journal holds {entries:,} entries, the big customer {of_one:,} of them in one period, a small one "
        f"{SMALL}.",
        "",
        f"| what | a second | lowest - highest | of {COPY} | of another |",
        "|---|---:|---:|---:|---|",
    ]
    for figure in figures.values():
        way = figure.way
        if not way.unit:
            continue
        beside = f"{figure.ratio_to(figures[way.beside]):.2f} of {way.beside}" if way.beside else ""
        of_copy = f"{figure.ratio_to(figures[COPY]):.2f}" if way.unit in ("rows", "entries") else ""
        lines.append(f"| {way.name} | {figure.rate:,.0f} {way.unit} | {figure.spread} | {of_copy} | {beside} |")
    return "\n".join([*lines, "", HOW])

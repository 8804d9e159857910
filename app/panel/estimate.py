"""What the period will come to if usage goes on as it has: an estimate, and what it rests on."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from ledger.money import EXACT

ZERO = Decimal(0)
TOO_EARLY = timedelta(hours=12)
"""Less than this says nothing about a month: one deployment would be multiplied by sixty and more."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """`amount` in major units, unrounded; `since` and `until` bound the usage that it goes on from."""

    amount: Decimal
    since: datetime
    until: datetime


def estimate_total(
    *,
    usage: Decimal,
    fixed: Decimal,
    start: datetime,
    end: datetime,
    usage_since: datetime,
    now: datetime,
    included: Decimal = ZERO,
) -> Estimate | None:
    """The period's total at its end: `usage` goes on at its pace since `usage_since` (not before `start`), `fixed`
    stays as it is (what was carried in, say), and a plan gives back up to `included` of the usage. None while there is
    too little to go by, or nothing left to guess.
    """
    since = max(start, usage_since)
    until = min(now, end)
    elapsed = until - since
    if elapsed < TOO_EARLY or now >= end or usage <= 0:
        return None
    seconds = EXACT.divide(Decimal(_microseconds(end - since)), Decimal(_microseconds(elapsed)))
    whole = EXACT.multiply(usage, seconds)
    return Estimate(EXACT.add(fixed, max(ZERO, EXACT.subtract(whole, included))), since, until)


def _microseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1)

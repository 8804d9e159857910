"""What can be set while the sandbox runs, and lasts across a restart."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from .errors import Json, invalid


@dataclass(frozen=True)
class Settings:
    """Times are seconds of the sandbox's clock unless the name says otherwise."""

    limits_enabled: bool = True
    rate_per_endpoint: float = 25.0  # requests a second of real time, per named operation
    rate_global: float = 100.0  # requests a second of real time, over everything
    concurrency_per_endpoint: int = 0  # requests of one named operation in flight at a time; 0: any number
    concurrency_global: int = 0  # requests in flight at a time, over everything; 0: any number
    object_locks: bool = True  # while limits are enabled: a write that meets another on its object is refused
    lock_wait_s: float = 1.0  # real seconds that a write waits for its object before that
    latency_s: float = 0.0  # real seconds that every execution takes, with its key in flight and its object locked
    collection_delay_s: float = 1.0  # from finalization to the first charge
    settlement_delay_s: float = 1.0  # from a charge to its balance transaction
    debit_days: float = 4.0  # from the debit of a bank account to the bank's answer
    retry_days: tuple[float, ...] = (3.0, 5.0, 7.0)  # after each failed automatic charge but the last
    fee_percent: str = "2.9"
    fee_fixed_minor: int = 30  # in the charge's minor units
    debit_fee_percent: str = "0.8"
    debit_fee_most_minor: int = 500  # the most that Stripe keeps of one debit, in its minor units
    refund_pending: bool = False  # refunds begin pending and stay so until they are settled, failed or canceled
    dispute_fee_minor: int = 1500  # taken with the disputed amount, in its minor units
    dispute_fee_returned: bool = False  # whether a dispute that is won gives the fee back
    payout_fee_minor: int = 0  # a fee of Stripe's own in each automatic payout, in its minor units
    settlement_currency: str = ""  # what the account settles in, such as eur; empty: every currency settles as itself
    exchange_rates: dict[str, str] = field(default_factory=dict)  # settlement currency for 1 of each other one

    def changed(self, change: Json) -> Settings:
        """These settings with some replaced.

        Raises:
            ApiError: 400, for a name or value that is not one of these.
        """
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        values: dict[str, Any] = {}
        for name, value in change.items():
            if name not in known:
                raise invalid(f"No such setting: {name}. Settings: {', '.join(sorted(known))}", param=name)
            values[name] = _like(known[name], value, name)
        return replace(self, **values)

    def as_json(self) -> Json:
        return asdict(self)


_CURRENCY = re.compile("[a-z]{3}")


def _like(current: Any, value: Any, name: str) -> Any:
    """`value` as the type of `current`; refuses what is negative or of another type."""
    if isinstance(current, bool):
        good = isinstance(value, bool)
    elif name == "settlement_currency":
        value = str(value).lower()
        good = value == "" or bool(_CURRENCY.fullmatch(value))
    elif isinstance(current, dict):
        good = isinstance(value, dict) and all(_is_rate(*pair) for pair in value.items())
        value = {name.lower(): str(rate) for name, rate in value.items()} if good else value
    elif isinstance(current, tuple):
        good = isinstance(value, list | tuple) and all(_is_number(item) for item in value)
        value = tuple(float(item) for item in value) if good else value
    elif isinstance(current, str):
        try:
            good = Decimal(str(value)) >= 0
        except InvalidOperation:
            good = False
        value = str(value)
    else:
        good = _is_number(value)
        value = type(current)(value) if good else value
    if not good:
        raise invalid(f"Invalid setting: {name} = {value!r}", param=name)
    return value


def _is_rate(currency: Any, rate: Any) -> bool:
    """Whether this is a currency with what one of it is worth."""
    try:
        worth = Decimal(str(rate))
    except InvalidOperation:
        return False
    return bool(_CURRENCY.fullmatch(str(currency).lower())) and worth.is_finite() and worth > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0

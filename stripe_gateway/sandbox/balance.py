"""The account's balance: one entry for each movement of it, and what they add up to."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from .currencies import decimals
from .errors import Json, missing
from .ids import new_id
from .lists import list_objects
from .world import Call, World

AVAILABLE_AFTER_S = 2 * 86400  # from a charge to the money being available
# What a kind of entry is called in Stripe's reports, where that is not the kind's own name.
# Source: https://docs.stripe.com/reports/reporting-categories.
_CATEGORIES = {
    "payment": "charge",
    "payment_failure_refund": "charge_failure",
    "payment_refund": "refund",
    "payout_cancel": "payout_reversal",
    "payout_failure": "payout_reversal",
    "stripe_fee": "fee",
}
# Money that was there before is there at once; only what is new must wait to become available.
_AT_ONCE = frozenset(
    [
        "adjustment",
        "payment_refund",
        "payout",
        "payout_cancel",
        "payout_failure",
        "refund",
        "refund_failure",
        "stripe_fee",
    ]
)


@dataclass(frozen=True)
class Settled:
    """An amount as it meets the balance, in minor units; `rate` is that of an exchange, None without one."""

    currency: str
    amount: int
    rate: float | None = None


def settled(world: World, currency: str, amount: int) -> Settled:
    """What `amount` minor units of `currency` are on the balance, at the rate of now.

    A currency with an exchange rate is exchanged into the settlement currency; every other one settles as itself, as
    at an account with a bank account in it. Source: https://docs.stripe.com/currencies/conversions
    """
    target = world.settings.settlement_currency
    rate = world.settings.exchange_rates.get(currency)
    if not target or target == currency or rate is None:
        return Settled(currency, amount)
    exact = Decimal(amount).scaleb(decimals(target) - decimals(currency)) * Decimal(rate)
    return Settled(target, int(exact.quantize(Decimal(1), ROUND_HALF_UP)), float(rate))


def balance_entry(
    world: World,
    source_id: str | None,
    currency: str,
    amount: int,
    *,
    kind: str,
    fee: int = 0,
    category: str | None = None,
    description: str | None = None,
    fee_description: str = "Stripe processing fees",
    private: Json | None = None,
    rate: float | None = None,
) -> Json:
    """One movement of the account's balance, in minor units of its currency; `amount` is signed, `net` follows.

    `rate` is the one at which the source's amount became this one, if it is in another currency (see `settled`).

    `source_id` is the object behind it, None for Stripe's own fees. Inside the caller's transaction.
    """
    now = world.clock.stamp()
    details = {
        "amount": fee,
        "application": None,
        "currency": currency,
        "description": fee_description,
        "type": "stripe_fee",
    }
    return world.store.insert(
        {
            "id": new_id("txn"),
            "object": "balance_transaction",
            "amount": amount,
            "available_on": now if kind in _AT_ONCE else now + AVAILABLE_AFTER_S,
            "balance_type": "payments",
            "created": now,
            "currency": currency,
            "description": description,
            "exchange_rate": rate,
            "fee": fee,
            "fee_details": [details] if fee else [],
            "net": amount - fee,
            "reporting_category": category or _CATEGORIES.get(kind, kind),
            "source": source_id,
            "status": "pending",
            "type": kind,
        },
        private=private,
    )


def net_by_currency(world: World, *, available: bool) -> dict[str, int]:
    """What is in the balance, in minor units: what can be paid out now, or what still has to become available."""
    # A debit whose bank has not answered is never available, however long that takes.
    word = "<= ? AND coalesce" if available else "> ? OR NOT coalesce"
    found = world.store.rows(
        "SELECT json_extract(data, '$.currency'), sum(json_extract(data, '$.net')) FROM objects"  # noqa: S608 - one of two literals
        f" WHERE kind = 'balance_transaction' AND deleted = 0 AND (json_extract(data, '$.available_on') {word}"
        "(json_extract(private, '$.pending'), 0) = 0)"
        " GROUP BY 1 ORDER BY 1",
        world.clock.stamp(),
    )
    return dict(found)


def retrieve_balance(call: Call) -> Json:
    """`/v1/balance`: a currency stands there once money has moved in it."""
    parts = {True: net_by_currency(call.world, available=True), False: net_by_currency(call.world, available=False)}
    currencies = sorted({*parts[True], *parts[False]}) or ["usd"]

    def amounts(available: bool) -> list[Json]:
        return [
            {"amount": amount, "currency": currency, "source_types": {"card": amount}}
            for currency in currencies
            for amount in [parts[available].get(currency, 0)]
        ]

    return {"object": "balance", "available": amounts(True), "livemode": False, "pending": amounts(False)}


def retrieve_balance_transaction(call: Call) -> Json:
    row = call.world.store.row(call.ids[0], kind="balance_transaction")
    if row is None:
        raise missing("balance transaction", call.ids[0])
    return row.data


def list_balance_transactions(call: Call) -> Json:
    """Newest first. `payout` gives what an automatic payout paid out, and the payout's own entry."""
    return list_objects(
        call,
        "balance_transaction",
        url="/v1/balance_transactions",
        filters={
            "source": "parent",
            "type": "json_extract(data, '$.type')",
            "currency": "json_extract(data, '$.currency')",
            "payout": "json_extract(private, '$.payout')",
        },
    )

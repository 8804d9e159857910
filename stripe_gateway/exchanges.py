"""Exchanges: balance transactions in another currency than their invoice's, booked in both.

An account settles in its own currency. The charge, refund or dispute behind a balance transaction says what the
customer paid or got back; the transaction says what became of it, what Stripe kept, and at which rate. Source:
https://docs.stripe.com/api/balance_transactions/object#balance_transaction_object-exchange_rate
"""

from collections.abc import Iterator
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

from sqlalchemy.orm import Session

from invoicing.movements.exchanges import is_exchanged, record_exchange
from stripe_gateway import amounts
from stripe_gateway.acts import ACTOR
from stripe_gateway.cash import PROVIDER, note_effect
from stripe_gateway.client import Json
from stripe_gateway.clock import instant
from stripe_gateway.house import House
from stripe_gateway.ownership import Owner, Paid
from stripe_gateway.tables import StripeSync

RATE_DECIMALS = 6
"""So many decimals of a rate may be taken as true, however few it shows: it was multiplied with before it was cut."""


def effect(transaction: str) -> str:
    """The business key of what a balance transaction did."""
    return f"bt:{transaction}"


def fits(session: Session, transaction: Json, owner: Owner) -> bool:
    """Whether a balance transaction is in the currency of its invoice, so that nothing is exchanged."""
    sync = session.get_one(StripeSync, (owner.customer_id, owner.invoice_id))
    return bool(transaction["currency"].upper() == sync.currency)


def is_booked(session: Session, transaction: Json) -> bool:
    """Whether a balance transaction was exchanged."""
    return is_exchanged(session, provider=PROVIDER, transaction=transaction["id"])


def record(session: Session, transaction: Json, *, amount_minor: int, paid: Paid, house: House, now: datetime) -> bool:
    """Book a balance transaction that does not fit its invoice's currency; False if it was. The caller commits.

    `amount_minor` is what the customer paid by it (below 0: got back), in minor units of the invoice's currency.

    Raises:
        InvoicingError, LedgerError: the books refuse it.
    """
    owner, settled = paid.owner, transaction["currency"].upper()
    sync = session.get_one(StripeSync, (owner.customer_id, owner.invoice_id))
    rate = transaction.get("exchange_rate")
    return record_exchange(
        session,
        provider=PROVIDER,
        account=house.account,
        transaction=transaction["id"],
        category=transaction["reporting_category"],
        customer_id=owner.customer_id,
        invoice_id=owner.invoice_id,
        payment_external_id=paid.payment,
        currency=sync.currency,
        amount=amounts.from_minor(amount_minor, sync.currency),
        settled_currency=settled,
        settled=amounts.from_minor(transaction["amount"], settled),
        fee=amounts.from_minor(transaction["fee"], settled),
        rate=None if rate is None else Decimal(str(rate)),
        at=instant(transaction["created"]),
        actor=ACTOR,
        now=now,
    )


def of_charge(transaction: Json, charge: Json) -> int:
    """What a balance transaction of a charge took from the customer, or brought back, in the charge's minor units."""
    return _signed(transaction, charge["amount"], if_zero=-1 if transaction["type"] == "payment_failure_refund" else 1)


def of_refund(transaction: Json, refund: Json) -> int:
    """What a balance transaction of a refund sent to the customer (below 0), or brought back from there."""
    return _signed(transaction, refund["amount"], if_zero=1 if transaction["type"] == "refund_failure" else -1)


def _signed(transaction: Json, amount_minor: int, *, if_zero: int) -> int:
    """The amount with the transaction's sign; a very small one may have become 0 in the other currency."""
    moved = transaction["amount"]
    return amount_minor * ((moved > 0) - (moved < 0) or if_zero)


def record_refund(
    session: Session, transaction: Json, *, refund: Json, paid: Paid, house: House, cause: str, now: datetime
) -> bool:
    """Book a movement of a refund's that does not fit; False if it fits, or was booked before. The caller commits.

    Raises:
        InvoicingError, LedgerError: the books refuse it.
    """
    if fits(session, transaction, paid.owner) or not note_effect(
        session, paid.owner, effect(transaction["id"]), cause=cause, now=now
    ):
        return False
    return record(session, transaction, amount_minor=of_refund(transaction, refund), paid=paid, house=house, now=now)


def movements_of(refund: Json) -> Iterator[Json]:
    """The balance transactions of a refund that was read with them."""
    for name in ("balance_transaction", "failure_balance_transaction"):
        transaction = refund.get(name)
        if isinstance(transaction, dict):
            yield transaction


def amounts_of_dispute(dispute: Json) -> dict[str, int]:
    """What each movement of a dispute is in the dispute's own minor units, signed as the movement, by its id.

    Stripe says what was disputed, and of each movement what became of it in the account's currency. A movement that is
    the whole dispute, or what is left of it, is exactly that; of any other one the rate tells.
    """
    held, found = 0, {}
    for transaction in dispute.get("balance_transactions") or []:
        found[transaction["id"]] = moved = _disputed(dispute, transaction, held=held)
        held -= moved
    return found


def _disputed(dispute: Json, transaction: Json, *, held: int) -> int:
    moved = int(transaction["amount"])
    if moved == 0 or transaction["currency"] == dispute["currency"]:
        return moved
    whole = -int(dispute["amount"]) if moved < 0 else held
    if transaction.get("exchange_rate") is None:
        return whole
    ours, theirs = dispute["currency"].upper(), transaction["currency"].upper()
    rate = Decimal(str(transaction["exchange_rate"]))
    in_minor = rate.scaleb(amounts.exponent(theirs) - amounts.exponent(ours))
    shown = rate.as_tuple().exponent
    unsure = Decimal(1).scaleb(-max(RATE_DECIMALS, -shown if isinstance(shown, int) else 0))
    if abs(whole * in_minor - moved) <= 1 + abs(moved) * unsure / rate:
        return whole
    step = amounts.step_minor(ours)
    return int((Decimal(moved) / in_minor / step).quantize(Decimal(1), ROUND_HALF_EVEN)) * step

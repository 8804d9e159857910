"""Exchanges: a customer's money that met the provider's balance in another currency than the customer pays in.

No book ever holds two currencies. The customer's books pass the amount on to the house's books of their own currency,
as at a payout; those give it to income:exchange. What the provider made of it comes from income:exchange in the house's
books of the settlement currency, and what it kept of it is an expense there. So the two accounts income:exchange are
the position between both currencies; where a payment went back at another rate, its difference stays in them.
"""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.booking import Booking
from invoicing.movements.refusals import ExchangeConflict
from invoicing.movements.tables import Exchange
from invoicing.movements.tasks import resolve_gone
from ledger import accounts
from ledger.books import BooksNotFound, house_id, lock_books, open_house
from ledger.entries import entry_id
from ledger.money import minor_units, plain
from ledger.tables import Entry

LABEL = "exchange"
"""The label of every entry of an exchange: both amounts, such as "100 USD = 92 EUR"."""


def is_exchanged(session: Session, *, provider: str, transaction: str) -> bool:
    """Whether this transaction of the provider's was exchanged, whoever's it is."""
    found = select(Exchange.external_id).where(Exchange.external_id == transaction, Exchange.provider == provider)
    return session.scalars(found).first() is not None


def record_exchange(
    session: Session,
    *,
    provider: str,
    account: str,
    transaction: str,
    category: str,
    customer_id: UUID,
    invoice_id: UUID,
    payment_external_id: str,
    currency: str,
    amount: Decimal,
    settled_currency: str,
    settled: Decimal,
    fee: Decimal,
    rate: Decimal | None,
    at: datetime,
    actor: str,
    now: datetime,
) -> bool:
    """Exchange one of the provider's transactions; False if it was exchanged before. The caller commits.

    `amount` is what the customer paid (below 0: got back; 0: only a fee moved), in major units of `currency`, the
    customer's; `settled` is what the provider made of it in `settled_currency`, where a very small amount may be 0;
    `fee` is what the provider kept of that, below 0 where it was given back. `rate` is the provider's, for the record.
    What waited in assets:suspense is taken back. The customer's books, and the house's in both currencies, are locked
    until the caller commits.

    Raises:
        ExchangeConflict: the amounts are none, or it was exchanged before with other ones or for somebody else.
        BooksNotFound: the customer has no books.
        EntryConflict: it was cleared before, in the customer's own currency.
    """
    _check(currency, amount, settled_currency, settled, fee, transaction=transaction)
    if customer_id not in lock_books(session, [customer_id]):
        raise BooksNotFound(f"There are no books for customer {customer_id}. Create the customer first.")
    exchange = Exchange(
        customer_id=customer_id,
        provider=provider,
        external_id=transaction,
        account=account,
        invoice_id=invoice_id,
        payment_external_id=payment_external_id,
        category=category,
        currency=currency,
        amount=amount,
        settled_currency=settled_currency,
        settled=settled,
        fee=fee,
        rate=rate,
        exchanged_at=at,
        recorded_at=now,
    )
    known = session.scalar(
        select(Exchange)
        .where(Exchange.external_id == transaction, Exchange.provider == provider)
        .execution_options(populate_existing=True)
    )
    if known is not None:
        if _facts(known) != _facts(exchange):
            raise ExchangeConflict(
                f"{transaction} was exchanged before as {_said(known)}; now it says {_said(exchange)}. Nothing was "
                "written; a person must compare it with the provider."
            )
        return False
    given, got, passed = _bookings(session, exchange, actor=actor, now=now)
    exchange.entry_id = entry_id(passed.transaction_id, "house") if amount else None
    for booking in (passed, given, got):
        booking.post(session, now=now)
    columns = {name: getattr(exchange, name) for name in Exchange.__table__.columns.keys()}  # noqa: SIM118 - no dict
    session.execute(insert(Exchange).values(columns))
    cause = f"{actor}: it is {_said(exchange)}"
    resolve_gone(session, kind="unknown_money", subject=f"{provider}:{transaction}", cause=cause, now=now)
    return True


def _check(
    currency: str, amount: Decimal, settled_currency: str, settled: Decimal, fee: Decimal, *, transaction: str
) -> None:
    whole = all(
        part.is_finite() and part == round(part, minor_units(of))
        for part, of in ((amount, currency), (settled, settled_currency), (fee, settled_currency))
    )
    is_one = whole and (amount * settled > 0 or (settled == 0 and (amount != 0 or fee != 0)))
    if not is_one or currency == settled_currency:
        raise ExchangeConflict(
            f"{transaction} would exchange {amount} {currency} for {settled} {settled_currency} with a fee of {fee}: "
            "that is no exchange of whole minor units between two currencies."
        )


def _facts(exchange: Exchange) -> tuple[object, ...]:
    return (
        exchange.customer_id,
        exchange.account,
        exchange.amount,
        exchange.settled_currency,
        exchange.settled,
        exchange.fee,
    )


def _said(exchange: Exchange) -> str:
    return (
        f"{plain(exchange.amount)} {exchange.currency} = {plain(exchange.settled)} {exchange.settled_currency}"
        f" (fee {plain(exchange.fee)}), of customer {exchange.customer_id}"
    )


def _bookings(session: Session, exchange: Exchange, *, actor: str, now: datetime) -> tuple[Booking, Booking, Booking]:
    """The house's books that give, those that get, and the customer's; both of the house's are open and locked then."""
    provider, account, transaction = exchange.provider, exchange.account, exchange.external_id
    both = {
        house_id(provider=provider, account=account, currency=currency): currency
        for currency in (exchange.currency, exchange.settled_currency)
    }
    # After the customer's, as whoever clears a payout does, and in one order.
    for _, currency in sorted(both.items()):
        open_house(session, provider=provider, account=account, currency=currency, now=now)
    lock_books(session, both)
    giving, getting = both
    at_rate = f" at {plain(exchange.rate)}" if exchange.rate is not None else ""
    swapped = f"{plain(exchange.amount)} {exchange.currency} = {plain(exchange.settled)} {exchange.settled_currency}"

    def booking(books: UUID, side: str, **labels: str) -> Booking:
        return Booking(
            books,
            # The names under which a payout clears a transaction: it is never cleared and exchanged.
            source=f"clearing {side}:{provider}",
            event_id=transaction,
            kind="payout",
            at=exchange.exchanged_at,
            actor=actor,
            reason=f"{exchange.category} {transaction}, {swapped}{at_rate}",
            labels={"transaction": transaction, "category": exchange.category, LABEL: swapped, **labels},
        )

    of_customer = {"customer": str(exchange.customer_id), "invoice": str(exchange.invoice_id)}
    passed = booking(exchange.customer_id, "customer")
    given, got = booking(giving, "house", **of_customer), booking(getting, "house", **of_customer)
    passed.labels["linked"] = given.labels["linked"] = str(given.transaction_id)
    passed.move("house", exchange.amount, debit=accounts.HOUSE, credit=accounts.STRIPE, document_id=None)
    given.move("exchange", exchange.amount, debit=accounts.EXCHANGE, credit=accounts.CUSTOMERS, document_id=None)
    suspended = session.get(Entry, (getting, entry_id(got.transaction_id, "suspense")))
    if suspended is not None:
        got.take_back(suspended)
    got.move("exchange", exchange.settled, debit=accounts.STRIPE, credit=accounts.EXCHANGE, document_id=None)
    got.move("kept", exchange.fee, debit=accounts.PROVIDER_FEES, credit=accounts.STRIPE, document_id=None, kind="fee")
    return given, got, passed

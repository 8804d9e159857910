"""Balance transactions: every movement of the money at Stripe is known here, is somebody's, and is booked."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from uuid import UUID

from sqlalchemy import text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.movements.payouts import OF_THE_PROVIDER, clear_transaction
from ledger.books import house_id
from ledger.entries import entry_id, transaction_id
from ledger.tables import Entry
from stripe_gateway import amounts, cash, debits, exchanges, fees
from stripe_gateway.cash import PROVIDER
from stripe_gateway.client import Json
from stripe_gateway.clock import instant
from stripe_gateway.debits import is_delayed
from stripe_gateway.errors import NotThere
from stripe_gateway.house import house_of
from stripe_gateway.ownership import Paid, id_of
from stripe_gateway.payouts import OWN_MOVEMENTS
from stripe_gateway.reconciliation import disputes, payouts, refunds
from stripe_gateway.reconciliation.comparison import CAUSE, PAGE, Comparison
from stripe_gateway.reconciliation.tables import StripeTransaction

NOT_PAID_OUT = "(not yet)"
"""What stands in the books as the payout of a movement that was booked before it was paid out."""

UNANSWERED = text("""
    SELECT charge FROM (
        SELECT external_id AS charge FROM payments_under_way WHERE state = 'under_way' AND provider = :provider
         UNION
        SELECT source FROM stripe_transactions WHERE is_under_way) waiting
     WHERE charge > :after ORDER BY charge LIMIT :limit
""")


def listed(work: Comparison, cursor: str | None) -> str | None:
    """A page of the movements of the balance within the window."""
    page = work.page("balance_transactions", cursor, expand=["data.source"])
    for transaction in page.data:
        compare(work, transaction)
    return page.after


def examine(work: Comparison, external_id: str) -> None:
    """Read one movement and compare it."""
    try:
        transaction = work.client.read("balance_transactions", external_id)
    except NotThere:
        return
    source = transaction.get("source")
    kind = _SOURCES.get(str(source).partition("_")[0])
    if kind is not None:
        with suppress(NotThere):
            transaction["source"] = work.client.read(kind, str(source))
    compare(work, transaction)


_SOURCES = {"ch": "charges", "py": "charges", "re": "refunds", "pyr": "refunds", "dp": "disputes", "du": "disputes"}


def compare(work: Comparison, transaction: Json) -> None:
    """Compare one movement: whose it is, and whether what it did is booked."""
    work.count("transactions")
    source = transaction.get("source")
    paid = work.paid_by(source) if isinstance(source, dict) else None
    is_under_way = isinstance(source, dict) and source["object"] == "charge" and source["status"] == "pending"
    _store(work, transaction, paid, is_under_way=is_under_way)
    if paid is not None and isinstance(source, dict) and source["object"] == "charge" and is_delayed(source):
        _note_debit(work, source, paid)
    if is_under_way:
        work.count("pending")
    elif paid is not None:
        _compare_customers(work, transaction, paid)
    elif transaction["type"] in OWN_MOVEMENTS:
        # A payout is listed beside its own movement; that it failed later, only the movement says within the window.
        payout = id_of(source)
        if payout is not None and transaction["type"] != "payout":
            payouts.examine(work, payout)
    else:
        _compare_houses(work, transaction)


def _compare_customers(work: Comparison, transaction: Json, paid: Paid) -> None:
    """A movement of a customer's money."""
    customer_id, source = paid.owner.customer_id, transaction["source"]
    with Session(work.engine) as session:
        fits = exchanges.fits(session, transaction, paid.owner)
    # What does not fit leaves suspense as it is exchanged.
    if fits and _legs(work, transaction) == {"suspense"}:
        _out_of_suspense(work, transaction, paid)
    if source["object"] == "charge":
        if not work.is_done(customer_id, exchanges.effect(transaction["id"])):
            _book_fee(work, transaction, paid)
    elif source["object"] == "refund":
        if work.unseen([source["id"]]):
            refunds.compare(work, source)
        if not fits and not work.is_done(customer_id, exchanges.effect(transaction["id"])):
            _exchange_refund(work, transaction, paid)
    elif source["object"] == "dispute" and work.unseen([source["id"]]):
        disputes.compare(work, source)


def _note_debit(work: Comparison, charge: Json, paid: Paid) -> None:
    with Session(work.engine) as session, session.begin():
        debits.record(session, charge, owner=paid.owner, livemode=work.livemode, now=work.now)


def unanswered(work: Comparison, cursor: str | None) -> str | None:
    """A page of the debits whose banks had not answered when we last heard: each is read, however old."""
    with Session(work.engine) as session:
        charges = session.scalars(UNANSWERED, {"after": cursor or "", "limit": PAGE, "provider": PROVIDER}).all()
    for external_id in charges:
        with suppress(NotThere):
            _hear(work, work.client.read("charges", external_id))
    return charges[-1] if len(charges) == PAGE else None


def _hear(work: Comparison, charge: Json) -> None:
    paid = work.paid_by(charge)
    if paid is not None:
        _note_debit(work, charge, paid)
    if charge["status"] != "pending":
        for name in ("balance_transaction", "failure_balance_transaction"):
            transaction = id_of(charge.get(name))
            if transaction is not None:
                examine(work, transaction)


def _book_fee(work: Comparison, transaction: Json, paid: Paid) -> None:
    def write(session: Session) -> None:
        cash.ensure(session, paid, livemode=work.livemode, cause=CAUSE, now=work.now)
        house = house_of(work.client)
        charge = transaction["source"]
        fees.record(session, transaction, charge=charge, paid=paid, house=house, cause=CAUSE, now=work.now)

    currency = transaction["currency"].upper()
    fee = f"{amounts.from_minor(transaction['fee'], currency)} {currency}"
    text = f"Stripe kept {fee} of {id_of(transaction['source'])} ({transaction['id']}); we had not heard of it."
    work.repair("fee_not_booked", transaction["id"], text, write, owner=paid.owner)


def _exchange_refund(work: Comparison, transaction: Json, paid: Paid) -> None:
    """A refund's movement in another currency than the customer's, of which no event told."""

    def write(session: Session) -> None:
        exchanges.record_refund(
            session,
            transaction,
            refund=transaction["source"],
            paid=paid,
            house=house_of(work.client),
            cause=CAUSE,
            now=work.now,
        )

    currency = transaction["currency"].upper()
    moved = f"{amounts.from_minor(transaction['amount'], currency)} {currency}"
    text = f"{transaction['id']} of {id_of(transaction['source'])} moved {moved}; we had not heard of it."
    work.repair("transaction_at_stripe_only", transaction["id"], text, write, owner=paid.owner)


def _compare_houses(work: Comparison, transaction: Json) -> None:
    """A movement that is no customer's: a charge of the provider's own, or money that nobody knows."""
    currency = transaction["currency"].upper()
    net = f"{amounts.from_minor(transaction['net'], currency)} {currency}"
    about = f"{transaction['reporting_category']} {transaction['id']} of {net}"
    is_booked = bool(_legs(work, transaction))
    if transaction["reporting_category"] in OF_THE_PROVIDER:
        if not is_booked:
            text = f"{about} is Stripe's own; it had not been booked."
            work.repair("transaction_at_stripe_only", transaction["id"], text, _booking(work, transaction, None))
        return
    source = id_of(transaction.get("source"))
    text = f"{about}{f' from {source}' if source else ''} belongs to no invoice of ours. It waits on assets:suspense."
    if not is_booked:
        booked = work.attempt("unknown_money", transaction["id"], text, _booking(work, transaction, None))
        if not booked:
            return
    work.differ("unknown_money", transaction["id"], text)


def _out_of_suspense(work: Comparison, transaction: Json, paid: Paid) -> None:
    """What belonged to nobody has an owner now: its suspense is taken back, as at a payout."""
    text = f"{transaction['id']} waited on assets:suspense and belongs to a customer after all."
    clear = _booking(work, transaction, paid.owner.customer_id)
    work.repair("transaction_at_stripe_only", transaction["id"], text, clear, owner=paid.owner)


def _booking(work: Comparison, transaction: Json, customer_id: UUID | None) -> Callable[[Session], object]:
    """What books a movement in the house's books now; the payout that brings it books it no second time."""
    account, currency = house_of(work.client).account, transaction["currency"].upper()

    def write(session: Session) -> None:
        clear_transaction(
            session,
            provider=PROVIDER,
            account=account,
            currency=currency,
            payout=NOT_PAID_OUT,
            transaction=transaction["id"],
            customer_id=customer_id,
            net=amounts.from_minor(transaction["net"], currency),
            category=transaction["reporting_category"],
            at=instant(transaction["created"]),
            actor=CAUSE,
            now=work.now,
        )

    return write


def _legs(work: Comparison, transaction: Json) -> set[str]:
    """How the house's books know this movement: as a fee, in suspense, as a customer's; empty if they do not."""
    account = house_of(work.client).account
    house = house_id(provider=PROVIDER, account=account, currency=transaction["currency"].upper())
    booked = transaction_id(f"clearing house:{PROVIDER}", transaction["id"])
    with Session(work.engine) as session:
        return {leg for leg in ("fee", "suspense", "customer") if session.get(Entry, (house, entry_id(booked, leg)))}


def _store(work: Comparison, transaction: Json, paid: Paid | None, *, is_under_way: bool) -> None:
    """Remember the movement, and whose it is once that is known."""
    currency = transaction["currency"].upper()
    owner = paid.owner if paid else None
    values = {
        "id": transaction["id"],
        "type": transaction["type"],
        "category": transaction["reporting_category"],
        "source": id_of(transaction.get("source")),
        "currency": currency,
        "amount": amounts.from_minor(transaction["amount"], currency),
        "fee": amounts.from_minor(transaction["fee"], currency),
        "net": amounts.from_minor(transaction["net"], currency),
        "created_at": instant(transaction["created"]),
        "available_at": _available(transaction),
        "customer_id": owner.customer_id if owner else None,
        "invoice_id": owner.invoice_id if owner else None,
        "payout": id_of(transaction.get("source")) if transaction["type"] in OWN_MOVEMENTS else None,
        "seen_at": work.now,
        "is_under_way": is_under_way,
    }
    with Session(work.engine) as session, session.begin():
        session.execute(insert(StripeTransaction).values(values).on_conflict_do_nothing())
        if not is_under_way:
            session.execute(
                update(StripeTransaction)
                .where(StripeTransaction.id == transaction["id"], StripeTransaction.is_under_way)
                .values(is_under_way=False, seen_at=work.now)
            )
        if owner is not None:
            session.execute(
                update(StripeTransaction)
                .where(StripeTransaction.id == transaction["id"], StripeTransaction.customer_id.is_(None))
                .values(customer_id=owner.customer_id, invoice_id=owner.invoice_id, seen_at=work.now)
            )


def _available(transaction: Json) -> datetime:
    return instant(transaction["available_on"])

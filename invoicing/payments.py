"""Payments: money that arrived for an invoice, and attempts that failed."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.credit.bought import give_paid_part
from invoicing.drafts import InvoiceNotFound
from invoicing.errors import InvoicingError
from invoicing.history import record
from invoicing.movements.endings import standing_write_off
from invoicing.movements.tasks import open_task
from invoicing.tables import Invoice, Payment, PaymentFailure
from ledger import accounts
from ledger.books import lock_books
from ledger.entries import NewEntry, digest, entry_id, transaction_id
from ledger.money import minor_units, plain
from ledger.posting import post
from ledger.tables import Entry


class PaymentConflict(InvoicingError):
    """This payment was recorded before with another amount or for another invoice. Nothing was written."""

    code = "payment_conflict"


class PaymentRefused(InvoicingError):
    """The payment does not fit the invoice: it is a draft, or the amount is not above zero in whole minor units."""

    code = "payment_refused"


def record_payment(
    session: Session,
    *,
    customer_id: UUID,
    invoice_id: UUID,
    provider: str,
    external_id: str,
    amount: Decimal,
    received_at: datetime,
    actor: str,
    now: datetime,
    account: str = accounts.STRIPE,
) -> Payment:
    """Record money that arrived (`amount` in major units, `external_id` the provider's own id). The caller commits.

    Up to what is open it settles the receivable; the rest is the customer's, in liabilities:unapplied. Once the open
    amount is 0 the invoice is paid. If it was given up, the write-off is reversed first, and what stays open is given
    up again. The same payment again returns the first record and posts nothing.

    Raises:
        InvoiceNotFound: the customer has no such invoice.
        PaymentConflict: the payment is known with another amount or invoice.
        PaymentRefused: the invoice has nothing to pay, or the amount is no amount.
    """
    lock_books(session, [customer_id])
    known = session.get(Payment, (customer_id, provider, external_id))
    if known is not None:
        if known.amount != amount or known.invoice_id != invoice_id:
            raise PaymentConflict(
                f"Payment {external_id} was recorded with {plain(known.amount)} for invoice {known.invoice_id}; now it "
                f"says {plain(amount)} for {invoice_id}. Nothing was written."
            )
        return known
    invoice = session.get(Invoice, (customer_id, invoice_id), with_for_update=True, populate_existing=True)
    if invoice is None:
        raise InvoiceNotFound("There is no such invoice. Check the link or the number.")
    if invoice.amount_due is None:
        raise PaymentRefused(f"Invoice {invoice.id} is {invoice.state}: it has no amount due that could be paid.")
    if not amount.is_finite() or amount <= 0 or amount != round(amount, minor_units(invoice.currency)):
        raise PaymentRefused(f"{amount} is no amount above zero in whole minor units of {invoice.currency}.")
    # What is paid towards a void invoice is the customer's money until a person decides; what we gave up is owed again.
    owed = invoice.open if invoice.state in ("final", "uncollectible") else Decimal(0)
    applied = min(amount, owed)
    _post_cash(
        session,
        invoice,
        provider=provider,
        external_id=external_id,
        amount=amount,
        applied=applied,
        account=account,
        received_at=received_at,
        actor=actor,
        now=now,
    )
    payment = Payment(
        customer_id=customer_id,
        provider=provider,
        external_id=external_id,
        invoice_id=invoice_id,
        amount=amount,
        applied=applied,
        received_at=received_at,
        recorded_at=now,
    )
    if invoice.state == "uncollectible" and applied > 0:
        event_id = f"{provider}:{external_id}"
        give_paid_part(session, invoice, applied, event_id=event_id, at=received_at, actor=actor, now=now)
    session.add(payment)
    session.flush()  # Postgres compares what the invoice says is paid with its payments
    invoice.amount_paid += applied
    paid = invoice.state in ("final", "uncollectible") and invoice.open == 0
    if paid:
        invoice.paid_at = received_at
    record(
        session,
        invoice,
        action="paid" if paid else "payment received",
        actor=actor,
        now=now,
        to_state="paid" if paid else None,
        details={"payment": external_id, "amount": plain(amount), "applied": plain(applied)},
    )
    if invoice.state == "void":
        _ask_a_person(session, invoice, payment, now=now)
    return payment


def _ask_a_person(session: Session, invoice: Invoice, payment: Payment, *, now: datetime) -> None:
    open_task(
        session,
        kind="paid_after_void",
        subject=f"{payment.provider}:{payment.external_id}",
        title=f"{plain(payment.amount)} {invoice.currency} were paid for {invoice.number}, which is void",
        text=f"Payment {payment.external_id} arrived for an invoice that nobody has to pay any more. The money is the "
        "customer's: send it back, or keep it as credit, from the invoice.",
        cause=f"payment {payment.external_id}",
        now=now,
        customer_id=invoice.customer_id,
        invoice_id=invoice.id,
        details={"payment": payment.external_id, "amount": plain(payment.amount)},
    )


def _post_cash(
    session: Session,
    invoice: Invoice,
    *,
    provider: str,
    external_id: str,
    amount: Decimal,
    applied: Decimal,
    account: str,
    received_at: datetime,
    actor: str,
    now: datetime,
) -> None:
    transaction = transaction_id(f"payment:{provider}", external_id)
    due = NewEntry(
        customer_id=invoice.customer_id,
        id=entry_id(transaction, "due"),
        transaction_id=transaction,
        debit_account=account,
        credit_account=accounts.RECEIVABLE,
        amount=applied,
        effective_at=received_at,
        kind="cash",
        actor=actor,
        digest=digest({"payment": external_id, "amount": amount, "leg": "due"}),
        document_id=invoice.id,
    )
    more = replace(
        due,
        id=entry_id(transaction, "unapplied"),
        credit_account=accounts.UNAPPLIED,
        amount=amount - applied,
        digest=digest({"payment": external_id, "amount": amount, "leg": "unapplied"}),
    )
    entries = [entry for entry in (due, more) if entry.amount > 0]
    written_off = standing_write_off(session, invoice) if applied > 0 else None
    if written_off is not None:
        entries = [*_owed_again(written_off, due), *entries]
    post(session, entries, now=now)


def _owed_again(written_off: Entry, due: NewEntry) -> list[NewEntry]:
    """The write-off reversed as a whole, since a reversal is exact, and anew for what this payment leaves open."""
    owed = replace(
        due,
        id=entry_id(due.transaction_id, "owed again"),
        debit_account=accounts.RECEIVABLE,
        credit_account=accounts.BAD_DEBT,
        amount=written_off.amount,
        kind="write_off",
        reason="Paid after all",
        reverses_id=written_off.id,
        digest=digest({"reverses": written_off.id}),
    )
    left = replace(
        owed,
        id=entry_id(due.transaction_id, "still given up"),
        debit_account=accounts.BAD_DEBT,
        credit_account=accounts.RECEIVABLE,
        amount=written_off.amount - due.amount,
        reason="Still not paid",
        reverses_id=None,
        digest=digest({"given up after": due.id, "amount": written_off.amount - due.amount}),
    )
    return [owed] if left.amount == 0 else [owed, left]


def account_of(session: Session, payment: Payment) -> str:
    """Where the payment's money went when it arrived: assets:stripe, or assets:bank."""
    transaction = transaction_id(f"payment:{payment.provider}", payment.external_id)
    legs = [entry_id(transaction, leg) for leg in ("due", "unapplied")]
    account = session.scalar(
        select(Entry.debit_account).where(Entry.customer_id == payment.customer_id, Entry.id.in_(legs)).limit(1)
    )
    return account or accounts.STRIPE


def record_payment_failure(
    session: Session,
    *,
    customer_id: UUID,
    invoice_id: UUID,
    provider: str,
    external_id: str,
    attempt: int,
    code: str | None,
    message: str | None,
    failed_at: datetime,
    next_attempt_at: datetime | None,
) -> bool:
    """Note that collecting failed; False if this failure was noted before. Moves no money. The caller commits.

    Raises:
        InvoiceNotFound: the customer has no such invoice.
    """
    if session.get(Invoice, (customer_id, invoice_id)) is None:
        raise InvoiceNotFound("There is no such invoice. Check the link or the number.")
    written = session.execute(
        insert(PaymentFailure)
        .values(
            customer_id=customer_id,
            provider=provider,
            external_id=external_id,
            invoice_id=invoice_id,
            attempt=attempt,
            code=code,
            message=message,
            failed_at=failed_at,
            next_attempt_at=next_attempt_at,
        )
        .on_conflict_do_nothing()
        .returning(PaymentFailure.external_id)
    ).first()
    return written is not None

"""Endings: a final invoice that nobody is to pay any more. Void, it never was; written off, it is our loss for now."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from invoicing.booking import Booking
from invoicing.credit.bought import follow_returned, take_unpaid_part
from invoicing.credit.lots import give_back
from invoicing.cycles import compile_drafts
from invoicing.history import record
from invoicing.movements.tables import CreditNote, Dispute, Movement
from invoicing.settings import Settings
from invoicing.tables import Invoice, Payment
from ledger import accounts
from ledger.balances import unbilled
from ledger.money import plain
from ledger.periods import ClosedPeriod
from ledger.tables import Entry


def money_moved(session: Session, invoice: Invoice) -> str | None:
    """What keeps this invoice from ever being void, in a few words; None if nothing does."""
    for table, words in ((Payment, "a payment arrived"), (CreditNote, "it was credited"), (Dispute, "it is disputed")):
        found = session.scalar(
            select(func.count())
            .select_from(table)
            .where(table.customer_id == invoice.customer_id, table.invoice_id == invoice.id)
        )
        if found:
            return words
    return None


def post_void(
    session: Session, invoice: Invoice, movement: Movement, *, at: datetime, actor: str, now: datetime
) -> None:
    """Take the invoice back entry by entry, then bill its charges again or give them up. The caller commits.

    Credits come back to their lots by the reversal of their entries; the lot that a top-up sold is gone. With "rebill"
    the next generation's draft is compiled from the period's charges, without the corrections that staff made on this
    one; with "give_up" the charges are taken out of what is unbilled. The caller holds `lock_invoice`, and nothing was
    paid, credited or disputed.
    """
    booking = Booking(
        invoice.customer_id,
        source="invoicing:void",
        event_id=str(invoice.id),
        kind="void",
        at=at,
        actor=actor,
        reason=movement.reason,
    )
    originals = _standing_entries(session, invoice)
    for original in originals:
        booking.take_back(original)
    then = movement.options["then"]
    if then == "give_up" and invoice.kind == "cycle":  # a top-up bills no charges
        charges = unbilled(session, customer_id=invoice.customer_id, period_start=invoice.period_start)
        booking.move("given_up", charges, debit=accounts.ADJUSTMENTS, credit=accounts.UNBILLED, document_id=invoice.id)
    booking.post(session, now=now)
    give_back(
        session,
        invoice,
        originals,
        transaction=booking.transaction_id,
        at=at,
        actor=actor,
        reason=movement.reason,
    )
    follow_returned(session, invoice, at=at, actor=actor, reason=movement.reason, now=now)
    record(
        session,
        invoice,
        action="voided",
        actor=actor,
        now=now,
        to_state="void",
        reason=movement.reason,
        details={"then": then, "movement": str(movement.id)},
    )
    if then == "rebill":
        _bill_again(session, invoice, movement, actor=actor, now=now)


def _standing_entries(session: Session, invoice: Invoice) -> Sequence[Entry]:
    """Every entry about the invoice that is neither a reversal nor reversed, the newest first.

    Processing fees stay: the provider does not give them back.
    """
    reversal = select(Entry.reverses_id).where(
        Entry.customer_id == invoice.customer_id, Entry.document_id == invoice.id, Entry.reverses_id.is_not(None)
    )
    return session.scalars(
        select(Entry)
        .where(
            Entry.customer_id == invoice.customer_id,
            Entry.document_id == invoice.id,
            Entry.reverses_id.is_(None),
            Entry.kind != "fee",
            Entry.id.not_in(reversal),
        )
        .order_by(Entry.seq.desc())
    ).all()


def _bill_again(session: Session, invoice: Invoice, movement: Movement, *, actor: str, now: datetime) -> None:
    latest = session.scalar(
        select(func.max(Invoice.generation)).where(
            Invoice.customer_id == invoice.customer_id,
            Invoice.period_start == invoice.period_start,
            Invoice.kind == invoice.kind,
        )
    )
    compile_drafts(
        session,
        [ClosedPeriod(invoice.customer_id, invoice.period_start, invoice.period_end)],
        settings=Settings(draft_window=timedelta(seconds=movement.draft_window_s or 0)),
        now=now,
        generation=1 + (latest or 0),
        actor=actor,
    )


def post_write_off(
    session: Session, invoice: Invoice, movement: Movement, *, at: datetime, actor: str, now: datetime
) -> Decimal:
    """Give up what is open (major units, answered): a bad debt, until somebody pays after all. The caller commits."""
    amount = invoice.open
    booking = Booking(
        invoice.customer_id,
        source="invoicing:write_off",
        event_id=str(movement.id),
        kind="write_off",
        at=at,
        actor=actor,
        reason=movement.reason,
    )
    booking.move("bad_debt", amount, debit=accounts.BAD_DEBT, credit=accounts.RECEIVABLE, document_id=invoice.id)
    booking.post(session, now=now)
    take_unpaid_part(
        session, invoice, amount, event_id=str(movement.id), at=at, actor=actor, reason=movement.reason, now=now
    )
    record(
        session,
        invoice,
        action="written off",
        actor=actor,
        now=now,
        to_state="uncollectible",
        reason=movement.reason,
        details={"amount": plain(amount), "movement": str(movement.id)},
    )
    return amount


def standing_write_off(session: Session, invoice: Invoice) -> Entry | None:
    """The entry that gave the invoice up, as long as it is not reversed."""
    reversal = select(Entry.reverses_id).where(
        Entry.customer_id == invoice.customer_id, Entry.document_id == invoice.id, Entry.reverses_id.is_not(None)
    )
    return session.scalar(
        select(Entry).where(
            Entry.customer_id == invoice.customer_id,
            Entry.document_id == invoice.id,
            Entry.kind == "write_off",
            Entry.debit_account == accounts.BAD_DEBT,
            Entry.id.not_in(reversal),
        )
    )

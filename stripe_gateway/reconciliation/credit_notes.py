"""Credit notes: each of ours stands at Stripe, and none stands there that the books do not know."""

from uuid import UUID

from sqlalchemy import and_, select, tuple_
from sqlalchemy.orm import Session

from invoicing.movements.tables import CreditNote
from invoicing.tax.credits import credit_note_taxes_of
from stripe_gateway import amounts, credit_notes
from stripe_gateway.client import Json
from stripe_gateway.errors import NotThere
from stripe_gateway.ownership import Owner, id_of
from stripe_gateway.reconciliation.comparison import CAUSE, PAGE, Comparison
from stripe_gateway.tables import StripeOperation


def listed(work: Comparison, cursor: str | None) -> str | None:
    """A page of the credit notes that were made at Stripe within the window."""
    page = work.page("credit_notes", cursor)
    for note in page.data:
        compare(work, note)
    return page.after


def compare(work: Comparison, note: Json) -> None:
    """Compare one credit note; those on invoices that are not ours are not our business."""
    invoice = id_of(note["invoice"]) or ""
    known = work.owners([invoice]).get(invoice)
    if known is None or known.invoice_id is None:
        return
    owner = Owner(known.customer_id, known.invoice_id)
    work.count("credit_notes")
    work.see([note["id"]])
    amount = f"{amounts.from_minor(note['total'], note['currency'])} {note['currency'].upper()}"

    def write(session: Session) -> None:
        credit_notes.record(session, note, owner=owner, livemode=work.livemode, cause=CAUSE, now=work.now)

    is_ours = _is_ours(work, note, owner)
    if not work.is_done(owner.customer_id, f"cn:{note['id']}:{note['status']}"):
        text = f"{note['id']} over {amount} is {note['status']} at Stripe; we had not heard of it."
        book = work.repair if is_ours else work.attempt
        if not book("credit_note_behind", note["id"], text, write, owner=owner):
            return
    if not is_ours and note["status"] != "void":
        text = f"A credit note over {amount}, {note['id']}, was made on {invoice} at Stripe, not here."
        work.differ("credit_note_at_stripe_only", note["id"], text, owner=owner)
    elif is_ours and note["status"] != "void":
        _compare_tax(work, note, owner)
    elif is_ours:
        text = f"Our credit note over {amount}, {note['id']}, was voided at Stripe; it stands in the books."
        work.differ("credit_note_voided_at_stripe", note["id"], text, owner=owner)


def _compare_tax(work: Comparison, note: Json, owner: Owner) -> None:
    """Where Stripe was told of the tax that our note gives back, it says the same; older notes told of none."""
    at_stripe = sum(tax["amount"] for tax in note.get("total_taxes") or [])
    if not note.get("total_taxes"):
        return
    with Session(work.engine) as session:
        found = session.get_one(CreditNote, (owner.customer_id, UUID(note["metadata"]["ledger_credit_note_id"])))
        taxes = credit_note_taxes_of(session, note=found)
        ours = sum(amounts.to_minor(part.amount, note["currency"].upper()) for part in taxes)
    if at_stripe != ours:
        text = f"{note['id']} gives {at_stripe} of tax back at Stripe, our credit note {ours} (minor units)."
        work.differ("credit_note_tax_differs", note["id"], text, owner=owner)


def _is_ours(work: Comparison, note: Json, owner: Owner) -> bool:
    try:
        named = UUID((note.get("metadata") or {}).get("ledger_credit_note_id") or "")
    except ValueError:
        return False
    with Session(work.engine) as session:
        found = session.get(CreditNote, (owner.customer_id, named))
        return found is not None and found.invoice_id == owner.invoice_id


def ours(work: Comparison, cursor: str | None) -> str | None:
    """A page of our own credit notes that no list has shown: each is read by itself."""
    run, row = work.place.run, StripeOperation
    query = (
        select(row)
        .where(row.kind == "credit_note", row.state == "done", row.external_id.is_not(None))
        .order_by(row.customer_id, row.id)
        .limit(PAGE)
    )
    if not work.is_full:
        in_window = row.done_at >= run.window_from
        query = query.where(in_window if run.asked_to is None else and_(in_window, row.done_at <= run.asked_to))
    if cursor is not None:
        query = query.where(tuple_(row.customer_id, row.id) > tuple(UUID(part) for part in cursor.split()))
    with Session(work.engine, expire_on_commit=False) as session:
        rows = list(session.scalars(query))
    for external_id in sorted(work.unseen([str(one.external_id) for one in rows])):
        examine(work, external_id)
    return f"{rows[-1].customer_id} {rows[-1].id}" if len(rows) == PAGE else None


def examine(work: Comparison, external_id: str) -> None:
    """Read one credit note and compare it."""
    try:
        note = work.client.read("credit_notes", external_id)
    except NotThere:
        with Session(work.engine, expire_on_commit=False) as session:
            row = session.scalars(
                select(StripeOperation).where(
                    StripeOperation.kind == "credit_note", StripeOperation.external_id == external_id
                )
            ).one_or_none()
        if row is not None and row.invoice_id is not None:
            text = f"{external_id} of our credit note {row.id} is not at Stripe any more."
            owner = Owner(row.customer_id, row.invoice_id)
            work.differ("credit_note_missing_at_stripe", external_id, text, owner=owner)
        return
    compare(work, note)

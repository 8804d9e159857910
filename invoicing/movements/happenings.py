"""Happenings: the credit note, refund, dispute or payout behind an entry, in a sentence for whoever clicks on it."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.movements.tables import CreditNote, Dispute, Payout, Refund
from ledger import accounts
from ledger.entries import transaction_id
from ledger.money import plain
from ledger.tables import Document, Entry

Happening = CreditNote | Refund | Dispute | Payout

_TABLES: dict[str, type[CreditNote] | type[Refund] | type[Dispute] | type[Payout]] = {
    "credit_note": CreditNote,
    "refund": Refund,
    "dispute": Dispute,
    "payout": Payout,
}


def happening_of(session: Session, entry: Entry) -> Happening | None:
    """What the entry is about, if that is something that happened after an invoice was final."""
    if entry.document_id is None:
        return None
    document = session.get(Document, (entry.customer_id, entry.document_id))
    table = _TABLES.get(document.kind) if document is not None else None
    if table is not None:
        found = session.get(table, (entry.customer_id, entry.document_id))
        return found if isinstance(found, CreditNote | Refund | Dispute | Payout) else None
    if entry.kind != "credit_note":
        return None
    # What a credit note takes off the open amount is about the invoice; its transaction is the credit note's.
    notes = session.scalars(
        select(CreditNote).where(
            CreditNote.customer_id == entry.customer_id, CreditNote.invoice_id == entry.document_id
        )
    )
    made = (note for note in notes if transaction_id("invoicing:credit_note", str(note.id)) == entry.transaction_id)
    return next(made, None)


def invoice_id_of(about: Happening | None) -> UUID | None:
    """The invoice behind it; None for a payout, or a dispute of which nothing is known yet."""
    return None if about is None or isinstance(about, Payout) else about.invoice_id


def happenings_of(session: Session, *, customer_id: UUID, invoice_id: UUID) -> list[tuple[str, str, UUID]]:
    """What happened to an invoice, each as a title, the account that shows it, and the document."""
    mine = {"customer_id": customer_id, "invoice_id": invoice_id}
    notes = session.scalars(select(CreditNote).filter_by(**mine).order_by(CreditNote.seq))
    refunds = session.scalars(select(Refund).filter_by(**mine).order_by(Refund.requested_at, Refund.id))
    disputes = session.scalars(select(Dispute).filter_by(**mine).order_by(Dispute.opened_at, Dispute.id))
    return [
        *(
            (
                f"Credit note {note.number}: {'void' if note.is_void else 'what had been paid'}",
                accounts.ADJUSTMENTS,
                note.id,
            )
            for note in notes
        ),
        *(
            (f"Refund {found.external_id or found.id} ({found.state})", accounts.UNAPPLIED, found.id)
            for found in refunds
        ),
        *(
            (f"Dispute {found.external_id} ({(found.status or '').replace('_', ' ')})", accounts.DISPUTED, found.id)
            for found in disputes
        ),
    ]


def sentence_of(about: Happening, entry: Entry, *, invoice: str) -> str:
    """Why the entry was made, in a sentence; `invoice` is how its invoice is called."""
    if isinstance(about, CreditNote):
        if entry.reverses_id is not None:
            return f"Credit note {about.number} for {invoice} is void, and its entry is taken back. {about.void_reason}"
        part = {
            (accounts.ADJUSTMENTS, accounts.RECEIVABLE): "what was still open is no longer owed",
            (accounts.ADJUSTMENTS, accounts.UNAPPLIED): "what was paid is the customer's money again",
            (accounts.UNAPPLIED, accounts.CREDITS_PREPAID): "the customer keeps it as credit",
            (accounts.TAX, accounts.ADJUSTMENTS): "its tax is no longer owed",
            (accounts.TAX, accounts.TAX_INCLUDED): "the tax inside of it is no longer owed",
        }.get((entry.debit_account, entry.credit_account), "what credits had paid is credit again")
        return f"Credit note {about.number} by {about.actor} for {invoice}: {part}. {about.reason}"
    if isinstance(about, Refund):
        name = about.external_id or str(about.id)
        if entry.reverses_id is not None:
            why = about.failure_reason or "no reason was given"
            came = "is as it was before" if entry.debit_account == accounts.UNAPPLIED else "came back"
            return f"Refund {name} did not arrive: {why}. The money {came}."
        if entry.debit_account == accounts.UNAPPLIED:
            return (
                f"Refund {name} of payment {about.payment_external_id} for {invoice}, asked for by {about.actor}: "
                f"{about.reason}"
            )
        return f"Refund {name} sent back what the customer had kept as credit."
    if isinstance(about, Dispute):
        return _of_dispute(about, entry, invoice=invoice)
    if entry.reverses_id is not None:
        return f"Payout {about.external_id} failed: the money is with {about.provider} again."
    return f"Payout {about.external_id} of {plain(about.amount)} {about.currency} from {about.provider} to the bank."


def _of_dispute(about: Dispute, entry: Entry, *, invoice: str) -> str:
    pair = (entry.debit_account, entry.credit_account)
    what = {
        (accounts.DISPUTED, accounts.STRIPE): "its money was withdrawn",
        (accounts.STRIPE, accounts.DISPUTED): "its money was given back",
        (accounts.CHARGEBACKS, accounts.DISPUTED): "it is lost",
        (accounts.DISPUTED, accounts.CHARGEBACKS): "the loss booked before does not stand",
        (accounts.DISPUTE_FEES, accounts.STRIPE): "its fee",
        (accounts.STRIPE, accounts.DISPUTE_FEES): "its fee was given back",
    }.get(pair, "its money moved")
    payment = f" of payment {about.payment_external_id} for {invoice}" if about.payment_external_id else ""
    reason = f" ({about.reason.replace('_', ' ')})" if about.reason else ""
    return f"Dispute {about.external_id}{payment}{reason}: {what}."

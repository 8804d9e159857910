"""Aftermath: what happened to an invoice after it was final, and what can be done with it now."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.errors import InvoicingError
from invoicing.movements.beginnings import OUTSIDE
from invoicing.movements.credit_notes import credit_notes_of
from invoicing.movements.disputes import loss_of
from invoicing.movements.refunds import refunds_of
from invoicing.movements.requests import ENDINGS, movements_of
from invoicing.movements.standing import PaymentStanding, Standing, standing_of
from invoicing.movements.tables import CreditNote, Dispute, Movement, Refund
from invoicing.provider import Provider, SyncState
from invoicing.tables import Invoice, Payment
from ledger import accounts
from ledger.entries import transaction_id
from ledger.tables import Entry
from support_ui.announcements import Announcement, announce

_KINDS = ("cash", "fee", "credit_note", "refund", "dispute", "void", "write_off")
WITH_AMOUNT = ("credit_note", "outside_payment", "refund_unapplied", "keep_unapplied")
_NEVER_FINAL = ("draft", "carried_forward", "empty")


@dataclass(frozen=True, slots=True)
class Action:
    """One form: what it begins, and what is announced before anything was typed (None: that depends on the amount)."""

    name: str
    kind: str
    title: str
    button: str
    movement_id: UUID
    options: Mapping[str, str] = field(default_factory=dict)
    announcement: Announcement | None = None
    amount: Decimal | None = None
    """What stands in the field for the amount; None: nothing, or there is no such field."""
    most: Decimal | None = None
    """The largest amount, where there is one."""

    @property
    def has_amount(self) -> bool:
        return self.kind in WITH_AMOUNT

    @property
    def is_grave(self) -> bool:
        """Whether it cannot be undone from here."""
        return self.kind in ("void", "write_off", "accept_dispute")


@dataclass(frozen=True, slots=True)
class Aftermath:
    """Everything since the invoice became final. Entries stand in the order in which they were posted."""

    standing: Standing
    movements: list[Movement]
    credit_notes: list[CreditNote]
    refunds: list[Refund]
    fees: Decimal
    operations: Mapping[UUID, SyncState]
    entries: Mapping[UUID, list[Entry]]
    """By the id of a movement, credit note, refund or dispute."""

    @property
    def disputes(self) -> list[Dispute]:
        return self.standing.disputes

    @property
    def is_empty(self) -> bool:
        return not (self.movements or self.credit_notes or self.refunds or self.disputes)

    def of_payment(self, payment: Payment) -> PaymentStanding:
        """What became of a payment."""
        return next(found for found in self.standing.payments if found.payment is payment)

    def of_movement(self, movement: Movement) -> list[SyncState]:
        """How far the provider is with what the movement asked of it."""
        subjects = [movement.id, *(row.id for row in self.refunds if row.movement_id == movement.id)]
        subjects += [row.id for row in self.credit_notes if row.movement_id == movement.id]
        return [self.operations[subject] for subject in subjects if subject in self.operations]

    def loss(self, dispute: Dispute) -> Decimal:
        """What the dispute cost so far, in major units: what is lost, and the fees."""
        return loss_of(dispute) + dispute.fees


def aftermath_of(session: Session, invoice: Invoice, *, provider: Provider) -> Aftermath | None:
    """What happened since, as the session sees it; None of what was never final. Writes nothing."""
    if invoice.state in _NEVER_FINAL:
        return None
    key = {"customer_id": invoice.customer_id, "invoice_id": invoice.id}
    standing = standing_of(session, invoice)
    movements = movements_of(session, **key)
    notes = credit_notes_of(session, **key)
    refunds = refunds_of(session, **key)
    happened = [*(note.id for note in notes), *(refund.id for refund in refunds)]
    documents = [invoice.id, *happened, *(dispute.id for dispute in standing.disputes)]
    subjects = [*(movement.id for movement in movements), *happened]
    entries = session.scalars(
        select(Entry)
        .where(Entry.customer_id == invoice.customer_id, Entry.document_id.in_(documents), Entry.kind.in_(_KINDS))
        .order_by(Entry.seq)
    ).all()
    return Aftermath(
        standing=standing,
        movements=movements,
        credit_notes=notes,
        refunds=refunds,
        fees=fees_of(entries, invoice_id=invoice.id),
        operations=provider.operation_states(session, customer_id=invoice.customer_id, subjects=subjects),
        entries=_by_subject(entries, invoice, movements, notes),
    )


def fees_of(entries: Iterable[Entry], *, invoice_id: UUID) -> Decimal:
    """What the provider kept of the invoice's payments, in major units."""
    found = Decimal(0)
    for entry in entries:
        if entry.document_id == invoice_id and accounts.PAYMENT_FEES in (entry.debit_account, entry.credit_account):
            found += entry.amount if entry.debit_account == accounts.PAYMENT_FEES else -entry.amount
    return found


def _by_subject(
    entries: Iterable[Entry], invoice: Invoice, movements: Iterable[Movement], notes: Iterable[CreditNote]
) -> dict[UUID, list[Entry]]:
    names = {transaction_id("invoicing:credit_note", str(note.id)): note.id for note in notes}
    for movement in movements:
        if movement.kind == "void":
            # An invoice is void once; a movement that was refused before it has no entries.
            if movement.state == "done":
                names[transaction_id("invoicing:void", str(invoice.id))] = movement.id
        elif movement.kind == "outside_payment":
            names[transaction_id(f"payment:{OUTSIDE}", movement.options["reference"].strip())] = movement.id
        else:
            source = {"write_off": "invoicing:write_off", "keep_unapplied": "invoicing:keep"}.get(movement.kind)
            if source:
                names[transaction_id(source, str(movement.id))] = movement.id
    found: dict[UUID, list[Entry]] = {}
    for entry in entries:
        subject = names.get(entry.transaction_id)
        if subject is None and entry.document_id is not None and entry.document_id != invoice.id:
            subject = entry.document_id
        if subject is not None:
            found.setdefault(subject, []).append(entry)
    return found


def name_of(kind: str, options: Mapping[str, str]) -> str:
    """How a form is told from the page's others."""
    return "-".join([kind, *(options[name] for name in ("then", "dispute") if name in options)])


def actions_of(session: Session, after: Aftermath, *, approval_limit: Decimal) -> list[Action]:
    """What can be begun now. What the rules would refuse is not offered."""
    standing = after.standing
    under_way = {movement.kind for movement in standing.under_way}
    offered = []
    for action in _candidates(standing):
        if under_way and (action.kind in ENDINGS or under_way & set(ENDINGS)):
            continue
        if action.kind in ("credit_note", "outside_payment"):
            is_possible = standing.creditable > 0 if action.kind == "credit_note" else _is_payable(standing)
            if is_possible:
                offered.append(action)
            continue
        try:
            announcement = announce(
                session,
                standing,
                kind=action.kind,
                amount=action.amount,
                options=action.options,
                fees=after.fees,
                approval_limit=approval_limit,
            )
        except InvoicingError:
            continue
        offered.append(replace(action, announcement=announcement))
    return offered


def _is_payable(standing: Standing) -> bool:
    return standing.invoice.state in ("final", "uncollectible") and standing.invoice.open > 0


def _candidates(standing: Standing) -> list[Action]:
    is_due = standing.invoice.amount_due is not None
    movable = standing.movable
    found = [
        _action("credit_note", "Credit note", "Issue the credit note", most=standing.creditable),
        _action(
            "outside_payment",
            "Record a payment that came another way",
            "Record the payment",
            amount=standing.invoice.open if is_due else None,
        ),
    ]
    if movable > 0:
        found += [
            _action("refund_unapplied", "Send unused money back", "Send it back", amount=movable, most=movable),
            _action("keep_unapplied", "Keep unused money as credit", "Keep it as credit", amount=movable, most=movable),
        ]
    found += [
        _action("void", "Void it and bill again", "Void and bill again", {"then": "rebill"}),
        _action("void", "Void it for good", "Void for good", {"then": "give_up"}),
        _action("write_off", "Give up what is open", "Give it up"),
    ]
    found += [
        _action("accept_dispute", f"Accept the dispute {name}", "Accept the dispute", {"dispute": name})
        for name in (dispute.external_id for dispute in standing.disputes)
    ]
    return found


def _action(
    kind: str,
    title: str,
    button: str,
    options: Mapping[str, str] | None = None,
    *,
    amount: Decimal | None = None,
    most: Decimal | None = None,
) -> Action:
    given = options or {}
    return Action(name_of(kind, given), kind, title, button, uuid4(), given, amount=amount, most=most)

"""Beginnings: for each kind of movement, what has to be true before it, and what happens when it starts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid5

from sqlalchemy.orm import Session

from invoicing.adjustments import BadAmount
from invoicing.booking import Booking
from invoicing.delayed_payments import refuse_while_under_way
from invoicing.movements.credit_notes import issue, split_of
from invoicing.movements.decisions import done
from invoicing.movements.endings import money_moved
from invoicing.movements.refunds import begin_refunds, is_by_hand, parts_of, refuse_keeping_more_than_is_secure
from invoicing.movements.refusals import AmountTooLarge, BadOptions, MovementNotPossible
from invoicing.movements.standing import Standing
from invoicing.movements.tables import Movement
from invoicing.payments import PaymentRefused, record_payment
from invoicing.provider import AcceptDisputeOrder, CreditNoteOrder, EndOrder, OutsidePaymentOrder, Provider
from invoicing.tables import Invoice, Payment
from ledger import accounts
from ledger.money import invoice_exponent, plain

OUTSIDE = "manual"
"""The provider of payments that staff record: they came to the bank account."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be moved, in major units, once it is known to be possible."""

    amount: Decimal
    may_need_approval: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """What somebody asks for; `amount` is None if they leave it to us.

    `provider` collects the invoice; without one what only it can refuse is not looked at.
    """

    session: Session
    standing: Standing
    amount: Decimal | None
    options: Mapping[str, Any]
    provider: Provider | None


@dataclass(frozen=True, slots=True)
class Start:
    """A movement that starts now, with what its invoice held a moment before."""

    session: Session
    standing: Standing
    movement: Movement
    provider: Provider
    actor: str
    now: datetime


Check = Callable[[Ask], Wish]
Begin = Callable[[Start], None]


@dataclass(frozen=True, slots=True)
class Beginning:
    """How one kind of movement is checked and begun. Both under `lock_invoice`; the caller commits."""

    options: Mapping[str, frozenset[str] | None]
    """The options it knows, each with the values that it may have; None: any text."""
    required: frozenset[str]
    checks: Check
    begins: Begin

    def check(
        self,
        session: Session,
        standing: Standing,
        *,
        amount: Decimal | None,
        options: Mapping[str, Any],
        provider: Provider | None = None,
    ) -> Wish:
        """Whether it can be done now, and with how much. Writes nothing.

        Raises:
            BadOptions, BadAmount, AmountTooLarge, MovementNotPossible, PaymentRefused.
        """
        self._check_options(options)
        if amount is not None:
            _check_amount(amount, standing.invoice.currency)
        return self.checks(Ask(session, standing, amount, options, provider))

    def begin(
        self,
        session: Session,
        standing: Standing,
        movement: Movement,
        *,
        provider: Provider,
        actor: str,
        now: datetime,
    ) -> None:
        """Do what can be done at once, and order the rest from the provider."""
        self.begins(Start(session, standing, movement, provider, actor, now))

    def _check_options(self, options: Mapping[str, Any]) -> None:
        for name, value in options.items():
            if name not in self.options:
                known = f"one of: {', '.join(self.options)}" if self.options else "none"
                raise BadOptions(f"{name!r} is no option here. The options are {known}.")
            allowed = self.options[name]
            if not isinstance(value, str) or (allowed is not None and value not in allowed):
                wanted = "text" if allowed is None else " or ".join(sorted(allowed))
                raise BadOptions(f"Option {name!r} is {value!r}; it has to be {wanted}.")
        missing = sorted(self.required - options.keys())
        if missing:
            raise BadOptions(f"Option {missing[0]!r} is missing.")


def _check_amount(amount: Decimal, currency: str) -> None:
    exponent = invoice_exponent(currency)
    if not amount.is_finite() or amount <= 0 or amount != round(amount, exponent):
        raise BadAmount(f"Give an amount above 0 with at most {exponent} decimals in {currency}.")


def _named(invoice: Invoice) -> str:
    return f"Invoice {invoice.number}" if invoice.number else "The draft"


def _check_credit_note(ask: Ask) -> Wish:
    invoice = ask.standing.invoice
    if invoice.state not in ("final", "paid"):
        cure = {
            "draft": "Correct the draft itself.",
            "uncollectible": "It is given up already: nothing is owed by it.",
        }.get(invoice.state, "Nothing is owed by it.")
        raise MovementNotPossible(f"{_named(invoice)} is {invoice.state}: it cannot be credited. {cure}")
    if ask.amount is None:
        raise BadAmount("Say how much is to be credited.")
    split = split_of(ask.session, ask.standing, ask.amount)
    if split.cash:
        if "paid_part" not in ask.options:
            raise BadOptions(
                f"{plain(split.cash)} {invoice.currency} of it were paid. Say in option 'paid_part' whether they are "
                "sent back (refund) or kept as credit (keep)."
            )
        if ask.options["paid_part"] == "refund":
            parts_of(ask.standing, split.cash)
        else:
            refuse_keeping_more_than_is_secure(ask.standing, split.cash)
    return Wish(ask.amount, may_need_approval=True)


def _begin_credit_note(start: Start) -> None:
    invoice = start.standing.invoice
    disposition = start.movement.options.get("paid_part", "keep")
    note = issue(
        start.session,
        invoice=invoice,
        credit_note_id=uuid5(start.movement.id, "credit note"),
        movement_id=start.movement.id,
        amount=start.movement.amount,
        disposition=disposition,
        reason=start.movement.reason,
        actor=start.actor,
        at=start.now,
        now=start.now,
    )
    refunds = []
    if disposition == "refund" and note.cash_part:
        refunds = begin_refunds(
            start.session,
            start.standing,
            amount=note.cash_part,
            source_id=note.id,
            credit_note_id=note.id,
            movement_id=start.movement.id,
            payment=None,
            reason=start.movement.reason,
            actor=start.actor,
            provider=start.provider,
            now=start.now,
        )
    amount = note.unpaid_part + note.cash_part
    if not amount:
        # Only our own credits had paid it: the provider never heard of this money.
        done(start.session, invoice, start.movement, external_id=None, actor=start.actor, now=start.now)
        return
    by_hand = {
        (found.payment.provider, found.payment.external_id) for found in start.standing.payments if is_by_hand(found)
    }
    order = CreditNoteOrder(
        customer_id=invoice.customer_id,
        movement_id=start.movement.id,
        credit_note_id=note.id,
        invoice_id=invoice.id,
        number=note.number,
        amount=amount,
        unpaid_part=note.unpaid_part,
        refund_ids=tuple(
            refund.id for refund in refunds if (refund.provider, refund.payment_external_id) not in by_hand
        ),
        currency=invoice.currency,
        reason=start.movement.reason,
    )
    start.provider.carry_out(start.session, order, now=start.now)


def _check_refund(ask: Ask) -> Wish:
    wanted = _unapplied(ask.standing, ask.amount)
    parts_of(ask.standing, wanted, payment=ask.options.get("payment"))
    return Wish(wanted, may_need_approval=True)


def _unapplied(standing: Standing, amount: Decimal | None) -> Decimal:
    invoice = standing.invoice
    if standing.unapplied <= 0:
        raise MovementNotPossible(
            f"{_named(invoice)} holds no money of the customer's that is not used. To give back what paid for it, "
            "credit it first."
        )
    wanted = standing.unapplied if amount is None else amount
    if wanted > standing.unapplied:
        raise AmountTooLarge(
            f"{plain(standing.unapplied)} {invoice.currency} of the customer's money are not used; {plain(wanted)} are "
            "too much."
        )
    return wanted


def _begin_refund(start: Start) -> None:
    begin_refunds(
        start.session,
        start.standing,
        amount=start.movement.amount,
        source_id=start.movement.id,
        credit_note_id=None,
        movement_id=start.movement.id,
        payment=start.movement.options.get("payment"),
        reason=start.movement.reason,
        actor=start.actor,
        provider=start.provider,
        now=start.now,
    )


def _check_keep(ask: Ask) -> Wish:
    wanted = _unapplied(ask.standing, ask.amount)
    refuse_keeping_more_than_is_secure(ask.standing, wanted)
    return Wish(wanted)


def _begin_keep(start: Start) -> None:
    invoice = start.standing.invoice
    booking = Booking(
        invoice.customer_id,
        source="invoicing:keep",
        event_id=str(start.movement.id),
        kind="refund",
        at=start.now,
        actor=start.actor,
        reason=start.movement.reason,
    )
    booking.move(
        "keep", start.movement.amount, debit=accounts.UNAPPLIED, credit=accounts.CREDITS_PREPAID, document_id=invoice.id
    )
    booking.post(start.session, now=start.now)
    done(start.session, invoice, start.movement, external_id=None, actor=start.actor, now=start.now)


def _check_void(ask: Ask) -> Wish:
    invoice = ask.standing.invoice
    if invoice.state not in ("final", "uncollectible") or invoice.total is None:
        cure = "Credit it instead." if invoice.state == "paid" else "Nothing is owed by it."
        raise MovementNotPossible(f"{_named(invoice)} is {invoice.state}: it cannot be made void. {cure}")
    moved = money_moved(ask.session, invoice)
    if moved is not None:
        raise MovementNotPossible(f"{_named(invoice)} cannot be made void: {moved}. Issue a credit note instead.")
    if ask.amount is not None and ask.amount != invoice.total:
        raise BadAmount(f"An invoice is made void as a whole: {plain(invoice.total)} {invoice.currency}.")
    if invoice.kind == "top_up" and ask.options["then"] == "rebill":
        raise BadOptions(
            f"{_named(invoice)} sells credit and bills no usage, so there is nothing to bill again. Make it void with "
            "'then' set to give_up; the customer may buy again."
        )
    refuse_while_under_way(ask.session, invoice, wish="it cannot be made void meanwhile")
    return Wish(invoice.total, may_need_approval=ask.options["then"] == "give_up")


def _check_write_off(ask: Ask) -> Wish:
    invoice = ask.standing.invoice
    if ask.standing.open <= 0:
        raise MovementNotPossible(f"{_named(invoice)} is {invoice.state}: nothing is open that could be given up.")
    if ask.amount is not None and ask.amount != ask.standing.open:
        raise BadAmount(
            f"All that is open is given up, {plain(ask.standing.open)} {invoice.currency}. Credit a part instead."
        )
    refuse_while_under_way(ask.session, invoice, wish="it cannot be given up meanwhile")
    return Wish(ask.standing.open, may_need_approval=True)


def _begin_ending(start: Start) -> None:
    order = EndOrder(
        customer_id=start.movement.customer_id,
        movement_id=start.movement.id,
        invoice_id=start.movement.invoice_id,
        kind="void" if start.movement.kind == "void" else "uncollectible",
    )
    start.provider.carry_out(start.session, order, now=start.now)


def _check_outside(ask: Ask) -> Wish:
    invoice = ask.standing.invoice
    if invoice.state not in ("final", "uncollectible"):
        raise MovementNotPossible(f"{_named(invoice)} is {invoice.state}: there is nothing to pay.")
    wanted = invoice.open if ask.amount is None else ask.amount
    left = invoice.open - wanted
    if left > 0 and ask.provider is not None:
        collects = ask.provider.of(ask.session, customer_id=invoice.customer_id)
        if left < collects.minimum(invoice.currency):
            raise PaymentRefused(
                f"{plain(invoice.open)} {invoice.currency} are open. {plain(wanted)} would leave {plain(left)}, which "
                "is too little to be collected. Credit that first, then record the payment."
            )
    received_at(ask.options)
    reference = ask.options["reference"].strip()
    if not 0 < len(reference) <= 200 or not reference.isprintable():
        raise BadOptions("Give the bank's reference of the payment, in 1 to 200 printable characters.")
    known = ask.session.get(Payment, (invoice.customer_id, OUTSIDE, reference))
    if known is not None:
        raise PaymentRefused(
            f"Payment {reference!r} of {plain(known.amount)} was recorded on {known.recorded_at.date()} already. Give "
            "another reference if this is another payment."
        )
    return Wish(wanted)


def received_at(options: Mapping[str, Any]) -> datetime:
    """When the outside payment arrived, as the options say.

    Raises:
        BadOptions: it is no time with a zone.
    """
    try:
        at = datetime.fromisoformat(options["received_at"])
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise BadOptions("Give 'received_at' as ISO 8601 with a zone, such as 2025-07-03T00:00:00Z.")
    return at


def _begin_outside(start: Start) -> None:
    invoice = start.standing.invoice
    open_before, reference = invoice.open, start.movement.options["reference"].strip()
    counted = min(open_before, start.movement.amount)
    record_payment(
        start.session,
        customer_id=invoice.customer_id,
        invoice_id=invoice.id,
        provider=OUTSIDE,
        external_id=reference,
        amount=start.movement.amount,
        received_at=received_at(start.movement.options),
        actor=start.actor,
        now=start.now,
        account=accounts.BANK,
    )
    order = OutsidePaymentOrder(
        customer_id=invoice.customer_id,
        movement_id=start.movement.id,
        invoice_id=invoice.id,
        amount=counted,
        currency=invoice.currency,
        reference=reference,
        left=open_before - counted,
    )
    start.provider.carry_out(start.session, order, now=start.now)


def _check_dispute(ask: Ask) -> Wish:
    dispute = next((found for found in ask.standing.disputes if found.external_id == ask.options["dispute"]), None)
    if dispute is None or dispute.amount is None:
        raise BadOptions(f"{_named(ask.standing.invoice)} has no dispute {ask.options['dispute']!r}.")
    if dispute.status != "needs_response":
        raise MovementNotPossible(
            f"Dispute {dispute.external_id} is {(dispute.status or 'unknown').replace('_', ' ')}: only one that "
            "needs a response can be accepted."
        )
    if ask.amount is not None and ask.amount != dispute.amount:
        raise BadAmount(f"A dispute is accepted as a whole: {plain(dispute.amount)} {ask.standing.invoice.currency}.")
    return Wish(dispute.amount)


def _begin_dispute(start: Start) -> None:
    order = AcceptDisputeOrder(
        customer_id=start.movement.customer_id,
        movement_id=start.movement.id,
        invoice_id=start.movement.invoice_id,
        dispute=start.movement.options["dispute"],
    )
    start.provider.carry_out(start.session, order, now=start.now)


_NOTHING: frozenset[str] = frozenset()

BY_KIND: Mapping[str, Beginning] = {
    "credit_note": Beginning(
        {"paid_part": frozenset({"refund", "keep"})}, _NOTHING, _check_credit_note, _begin_credit_note
    ),
    "refund_unapplied": Beginning({"payment": None}, _NOTHING, _check_refund, _begin_refund),
    "keep_unapplied": Beginning({}, _NOTHING, _check_keep, _begin_keep),
    "void": Beginning({"then": frozenset({"rebill", "give_up"})}, frozenset({"then"}), _check_void, _begin_ending),
    "write_off": Beginning({}, _NOTHING, _check_write_off, _begin_ending),
    "outside_payment": Beginning(
        {"received_at": None, "reference": None},
        frozenset({"received_at", "reference"}),
        _check_outside,
        _begin_outside,
    ),
    "accept_dispute": Beginning({"dispute": None}, frozenset({"dispute"}), _check_dispute, _begin_dispute),
}

"""Explaining what the ledger does not know: the invoice, line, price, person or payment behind an entry."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.credit.explaining import grant_behind, sentence_of_credit
from invoicing.customers import CustomerView, get_customer
from invoicing.drafts import InvoiceView, get_invoice, lines_of
from invoicing.errors import InvoicingError
from invoicing.explaining.subjects import Subject, find_subject
from invoicing.movements.happenings import Happening, happening_of, happenings_of, invoice_id_of, sentence_of
from invoicing.prices.book import terms_by_id
from invoicing.tables import Adjustment, CreditGrant, Invoice, Item, Line, Payment, Price
from invoicing.tax.invoices import LineTax, taxes_of_line
from ledger import accounts
from ledger.entries import transaction_id
from ledger.explain import EntryStory, Explanation, explain_amount, explain_entry
from ledger.money import EXACT, plain
from ledger.selections import ANYTHING, Anything, Selection
from ledger.tables import Books, Entry


class LineDisagrees(InvoicingError):
    """The entries do not add up to the line made of them. Run `billing ledger check` before billing anything."""

    code = "line_disagrees"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose books they are; `external_id` and `name` are None for books that are no customer's."""

    customer_id: UUID
    external_id: str | None
    name: str | None
    currency: str
    time_zone: str


@dataclass(frozen=True, slots=True)
class Calculation:
    """`quantity` times `unit_amount` makes `product`, exact; the price holds from `valid_from` until `valid_until`."""

    price_id: UUID
    item: str
    item_name: str
    unit: str
    unit_amount: Decimal
    valid_from: datetime
    valid_until: datetime | None
    published_by: str
    quantity: Decimal
    product: Decimal


@dataclass(frozen=True, slots=True)
class EntryExplained:
    """One entry: who, what, when and why. `invoice` is the one it is about or that bills it, `line` where on it."""

    owner: Owner
    story: EntryStory
    cause: str
    placement: str | None
    calculation: Calculation | None
    invoice: Invoice | None
    line: Line | None
    adjustment: Adjustment | None
    payment: Payment | None
    grant: CreditGrant | None
    about: Happening | None = None
    """The credit note, refund, dispute or payout that it is about."""


@dataclass(frozen=True, slots=True)
class LineExplained:
    """One line of an invoice; a correction has its entry, any other line the explanation of its amount."""

    owner: Owner
    invoice: Invoice
    line: Line
    calculation: Calculation | None
    explanation: Explanation | None
    correction: EntryExplained | None
    taxes: list[LineTax] = field(default_factory=list)
    """What the line bears of each tax; of a draft's line, as it would be now."""


@dataclass(frozen=True, slots=True)
class InvoicePart:
    """One step from the charges to what is still open, with the entries that make it."""

    title: str
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class InvoiceExplained:
    """An invoice: charges and corrections add up to `exact_total`; rounding, credits and payments follow."""

    owner: Owner
    view: InvoiceView
    parts: list[InvoicePart]


@dataclass(frozen=True, slots=True)
class BalanceExplained:
    """One account's balance as it is now."""

    owner: Owner
    account: str
    explanation: Explanation


Explained = EntryExplained | LineExplained | InvoiceExplained | BalanceExplained


def explain(
    session: Session, *, what: str, customer: str | None = None, limit: int = 20, after_seq: int = 0
) -> Explained:
    """Whatever `what` names: see `invoicing.explaining.subjects.find_subject`. Writes nothing.

    `customer` narrows to one customer, by the platform's id or ours. Of the entries behind an amount `limit` are
    returned, those after `after_seq`.

    Raises:
        UnknownSubject, AmbiguousSubject: nothing, or more than one thing, has this name.
        LineDisagrees, TotalsDisagree: the books contradict themselves.
    """
    subject = find_subject(session, what=what, customer=customer)
    return explain_subject(session, subject, limit=limit, after_seq=after_seq)


def explain_subject(session: Session, subject: Subject, *, limit: int = 20, after_seq: int = 0) -> Explained:
    """What `explain` answers for a subject that is found already."""
    if subject.kind == "balance":
        assert subject.account is not None  # noqa: S101 - a balance is of an account
        explanation = explain_amount(
            session,
            customer_id=subject.customer_id,
            selection=Selection(account=subject.account),
            limit=limit,
            after_seq=after_seq,
        )
        return BalanceExplained(_owner(session, subject.customer_id), subject.account, explanation)
    assert subject.id is not None  # noqa: S101 - everything else has an id
    if subject.kind == "invoice":
        return _invoice(session, subject.customer_id, subject.id, limit=limit, after_seq=after_seq)
    if subject.kind == "line":
        return _line(session, subject.customer_id, subject.id, limit=limit, after_seq=after_seq)
    return explain_one_entry(session, customer_id=subject.customer_id, entry_id=subject.id)


def explain_one_entry(session: Session, *, customer_id: UUID, entry_id: UUID) -> EntryExplained:
    """One entry with its cause.

    Raises:
        EntryNotFound: these books have no such entry.
    """
    story = explain_entry(session, customer_id=customer_id, entry_id=entry_id)
    entry = story.entry
    invoice, line = _invoice_of(session, entry)
    adjustment = _adjustment_of(session, entry)
    payment = _payment_of(session, entry)
    grant = grant_behind(session, entry)
    calculation = None
    if entry.price_id is not None and entry.quantity is not None:
        calculation = _calculation(session, price_id=entry.price_id, quantity=entry.quantity)
    explained = EntryExplained(
        owner=_owner(session, customer_id),
        story=story,
        cause="",
        placement=_placement(story),
        calculation=calculation,
        invoice=invoice,
        line=line,
        adjustment=adjustment,
        payment=payment,
        grant=grant,
        about=happening_of(session, entry),
    )
    return replace(explained, cause=_cause(explained))


def _owner(session: Session, customer_id: UUID) -> Owner:
    books = session.get_one(Books, customer_id)
    if books.holder == "house":
        return Owner(customer_id, None, None, books.currency, books.time_zone)
    view: CustomerView = get_customer(session, customer_id=customer_id)
    return Owner(customer_id, view.external_id, view.name, view.currency, view.time_zone)


def _invoice(session: Session, customer_id: UUID, invoice_id: UUID, *, limit: int, after_seq: int) -> InvoiceExplained:
    view = get_invoice(session, customer_id=customer_id, invoice_id=invoice_id)

    def part(title: str, selection: Selection) -> InvoicePart:
        found = explain_amount(session, customer_id=customer_id, selection=selection, limit=limit, after_seq=after_seq)
        return InvoicePart(title, found)

    def about(account: str, contra_account: str | Anything = ANYTHING) -> Selection:
        return Selection(account=account, contra_account=contra_account, document_id=invoice_id)

    if view.invoice.kind == "top_up":
        charges = part("Prepaid credit sold", about(accounts.CREDITS_PREPAID, accounts.RECEIVABLE))
    else:
        charges = part(
            "Charges of the period",
            Selection(account=accounts.UNBILLED, document_id=None, period_start=view.invoice.period_start),
        )
    corrections = part("Corrections by staff", about(accounts.UNBILLED, accounts.ADJUSTMENTS))
    # Of a void invoice the corrections were taken back, and perhaps the charges given up: its lines are history.
    total = EXACT.add(charges.explanation.total, corrections.explanation.total)
    if total != view.exact_total and view.invoice.state != "void":
        raise LineDisagrees(
            f"The lines add up to {plain(view.exact_total)}, their entries to {plain(total)}. Run `billing ledger "
            "check` before anything is billed."
        )
    others = [
        part("Rounding to whole cents", about(accounts.UNBILLED, accounts.ROUNDING)),
        part("Carried forward to a later period", about(accounts.UNBILLED, accounts.CARRIED)),
        part("Tax owed for it", about(accounts.TAX)),
        part("What the customer owes by it: invoiced, less credits and payments", about(accounts.RECEIVABLE)),
    ]
    for title, account, document_id in happenings_of(session, customer_id=customer_id, invoice_id=invoice_id):
        others.append(part(title, Selection(account=account, document_id=document_id)))
    kept = [found for found in (corrections, *others) if found.explanation.count]
    return InvoiceExplained(_owner(session, customer_id), view, [charges, *kept])


def _line(session: Session, customer_id: UUID, line_id: UUID, *, limit: int, after_seq: int) -> LineExplained:
    line = session.scalars(select(Line).where(Line.customer_id == customer_id, Line.id == line_id)).one()
    invoice = session.get_one(Invoice, (customer_id, line.invoice_id))
    explanation = correction = calculation = None
    if line.adjustment_id is not None:
        adjustment = session.get_one(Adjustment, (customer_id, line.adjustment_id))
        correction = explain_one_entry(session, customer_id=customer_id, entry_id=adjustment.entry_id)
        entry = correction.story.entry
        total = entry.amount if entry.debit_account == accounts.UNBILLED else -entry.amount
    else:
        explanation = explain_amount(
            session, customer_id=customer_id, selection=selection_of(line, invoice), limit=limit, after_seq=after_seq
        )
        total = explanation.total
        if line.price_id is not None and line.quantity is not None and line.contra_account != accounts.CARRIED:
            calculation = _calculation(session, price_id=line.price_id, quantity=line.quantity)
    if total != line.amount and (invoice.kind, invoice.state) != ("top_up", "void"):
        raise LineDisagrees(
            f"Line {line.id} says {plain(line.amount)}, its entries add up to {plain(total)}. Run `billing ledger "
            "check` before anything is billed."
        )
    lines = lines_of(session, customer_id=customer_id, invoice_id=invoice.id)
    taxes = taxes_of_line(session, invoice, lines, line_id=line.id)
    return LineExplained(_owner(session, customer_id), invoice, line, calculation, explanation, correction, taxes)


def selection_of(line: Line, invoice: Invoice) -> Selection:
    """The entries behind a line that is no correction, as the cycle close selected them; of a top-up, its sale."""
    if invoice.kind == "top_up":
        return Selection(account=accounts.CREDITS_PREPAID, contra_account=accounts.RECEIVABLE, document_id=invoice.id)
    return Selection(
        account=accounts.UNBILLED,
        contra_account=line.contra_account,
        document_id=None,
        period_start=invoice.period_start,
        usage_period_start=line.usage_period_start,
        item=line.item,
        price_id=line.price_id,
    )


def _calculation(session: Session, *, price_id: UUID, quantity: Decimal) -> Calculation | None:
    price = session.get(Price, price_id)
    terms = terms_by_id(session, [price_id]).get(price_id)
    if price is None or terms is None or not terms.flat:
        return None  # tiers and allowances count a whole period: `line_explaining` tells those
    item = session.get_one(Item, price.item)
    valid_until = session.scalar(
        select(Price.valid_from)
        .where(
            Price.item == price.item,
            Price.currency == price.currency,
            Price.price_list == price.price_list,
            Price.customer_id.is_not_distinct_from(price.customer_id),
            Price.region.is_not_distinct_from(price.region),
            Price.valid_from > price.valid_from,
        )
        .order_by(Price.valid_from)
        .limit(1)
    )
    return Calculation(
        price_id=price.id,
        item=price.item,
        item_name=item.name,
        unit=item.unit,
        unit_amount=price.unit_amount,
        valid_from=price.valid_from,
        valid_until=terms.until or valid_until,
        published_by=price.created_by,
        quantity=quantity,
        product=EXACT.multiply(quantity, price.unit_amount),
    )


def _invoice_of(session: Session, entry: Entry) -> tuple[Invoice | None, Line | None]:
    """The invoice that an entry is about, or that bills it, and its line."""
    if entry.document_id is not None:
        invoice_id = invoice_id_of(happening_of(session, entry)) or entry.document_id
        return session.get(Invoice, (entry.customer_id, invoice_id)), None
    if entry.period_start is None:
        return None, None
    invoice = session.scalar(
        select(Invoice)
        .where(
            Invoice.customer_id == entry.customer_id,
            Invoice.period_start == entry.period_start,
            Invoice.kind == "cycle",
        )
        .order_by(Invoice.generation.desc())
        .limit(1)
    )
    if invoice is None:
        return None, None
    contra = entry.credit_account if entry.debit_account == accounts.UNBILLED else entry.debit_account
    line = session.scalar(
        select(Line).where(
            Line.customer_id == entry.customer_id,
            Line.invoice_id == invoice.id,
            Line.adjustment_id.is_(None),
            Line.contra_account == contra,
            Line.item.is_not_distinct_from(entry.item),
            Line.price_id.is_not_distinct_from(entry.price_id),
            Line.usage_period_start == entry.usage_period_start,
        )
    )
    return invoice, line


def _adjustment_of(session: Session, entry: Entry) -> Adjustment | None:
    """The correction that an entry made, or took back."""
    if entry.document_id is None or entry.kind != "adjustment":
        return None
    return session.scalar(
        select(Adjustment).where(
            Adjustment.customer_id == entry.customer_id,
            Adjustment.invoice_id == entry.document_id,
            Adjustment.entry_id == (entry.reverses_id or entry.id),
        )
    )


def _payment_of(session: Session, entry: Entry) -> Payment | None:
    if entry.document_id is None or entry.kind != "cash":
        return None
    payments = session.scalars(
        select(Payment).where(Payment.customer_id == entry.customer_id, Payment.invoice_id == entry.document_id)
    )
    # As record_payment makes it.
    made = (payment for payment in payments if payment_transaction(payment) == entry.transaction_id)
    return next(made, None)


def payment_transaction(payment: Payment) -> UUID:
    """The id of the transaction that a payment's entries have."""
    return transaction_id(f"payment:{payment.provider}", payment.external_id)


def _placement(story: EntryStory) -> str | None:
    """Why the entry is in its period, in a sentence."""
    entry = story.entry
    if story.placement is None or entry.usage_period_start is None:
        return None
    used = _written(entry.usage_period_start)
    if story.placement == "late":
        return (
            f"Late: the period of its use, from {used}, was closed when it was recorded at "
            f"{_written(entry.recorded_at)}; the earliest open one after it bills it."
        )
    if story.placement == "carried":
        return f"Carried forward from an earlier invoice; it was used in the period from {used}."
    return "In time: the period of its use was still open when it was recorded."


def _cause(found: EntryExplained) -> str:
    """What made the entry, in a sentence."""
    entry = found.story.entry
    number = _named(found.invoice)
    if found.adjustment is not None:
        adjustment = found.adjustment
        if entry.reverses_id is not None:
            return f"{entry.actor} undid the correction “{adjustment.description}” that {adjustment.actor} made."
        approved = f", approved by {adjustment.approved_by}" if adjustment.approved_by else ""
        return f"{adjustment.actor} corrected {number}: “{adjustment.description}”{approved}."
    if found.about is not None:
        return sentence_of(found.about, entry, invoice=number)
    if entry.kind == "void":
        return f"{number[:1].upper()}{number[1:]} was made void: {entry.reason or 'no reason was given'}"
    if entry.kind == "write_off":
        back = " no more, since it was paid after all" if entry.reverses_id else ""
        return f"{number[:1].upper()}{number[1:]} was given up{back}: {entry.reason or 'no reason was given'}"
    if entry.reverses_id is not None:
        return f"It takes back entry {entry.reverses_id}."
    if found.payment is not None:
        payment = found.payment
        part = "" if entry.amount == payment.amount else f", of {plain(payment.amount)} in all"
        return f"Payment {payment.external_id} through {payment.provider} for {number}{part}."
    if found.grant is not None:
        return sentence_of_credit(found.grant, entry, invoice=number)
    if entry.kind == "usage":
        priced = "rated at our price" if entry.price_id else "with the amount that its source gave"
        back = " taken back" if entry.debit_account != accounts.UNBILLED else ""
        return f"Usage{back}, {priced}, sent by {entry.actor}."
    sentences = {
        "rounding": f"The exact total of {number} was rounded to whole cents.",
        "finalization": f"{number[:1].upper()}{number[1:]} became final: what was unbilled is now owed.",
        "tax": f"{entry.reason} of {number}: owed to the tax office, not earned.",
        "credit": f"Credit of the customer paid for {number}.",
        "fee": f"{entry.actor} kept it for processing a payment of {number}."
        if entry.document_id
        else f"{entry.actor} kept it of {entry.reason}.",
        "refund": f"Money of the customer's from {number} was kept as credit: {entry.reason}",
        "payout": f"{entry.reason}: settled between the customer's books and the house's.",
        "carry": "Too small to collect, or negative: moved to a later period, to the last digit.",
    }
    return sentences.get(entry.kind, f"Posted as {entry.kind} by {entry.actor}.")


def _named(invoice: Invoice | None) -> str:
    if invoice is None:
        return "the document"
    return f"invoice {invoice.number}" if invoice.number else f"the draft for {invoice.period_start.date().isoformat()}"


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")

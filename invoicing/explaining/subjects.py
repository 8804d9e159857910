"""Subjects: what somebody who asks for an explanation may mean by an id, a number or a name."""

import contextlib
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Select, literal, select
from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from invoicing.errors import InvoicingError
from invoicing.movements.tables import CreditNote, Dispute, Movement, Payout, Refund
from invoicing.tables import Adjustment, Invoice, Line, Payment, Price
from ledger import accounts
from ledger.entries import entry_id, transaction_id
from ledger.explain import find_entries, find_transaction
from ledger.tables import Books, Document, Entry

LEGS = (
    "usage", "quantity", "net", "adjustment", "reversal", "grant", "due", "unapplied", "out:0", "unpaid", "cash",
    "keep", "refund", "funds", "fee", "loss", "bank", "house", "customer", "suspense", "bad_debt", "given_up",
    "exchange", "kept",
)  # fmt: skip
"""Names of the legs that our transactions have: their entries are found by the primary key, others by reading all."""


HAPPENINGS: tuple[tuple[Any, Any], ...] = (
    (CreditNote, CreditNote.number),
    (Refund, Refund.external_id),
    (Dispute, Dispute.external_id),
    (Payout, Payout.external_id),
)
"""What happens after an invoice is final, with the name that people use for it."""


class UnknownSubject(InvoicingError):
    """Nothing has this name. Check the spelling, or search the customer first."""

    code = "unknown_subject"


class AmbiguousSubject(InvoicingError):
    """More than one thing has this name. Say whose you mean."""

    code = "ambiguous_subject"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be explained: an entry, invoice or line by its id, or the balance of an account."""

    kind: Literal["entry", "invoice", "line", "balance"]
    customer_id: UUID
    id: UUID | None = None
    account: str | None = None


def find_subject(session: Session, *, what: str, customer: str | None = None) -> Subject:
    """What `what` names.

    An entry's, transaction's, invoice's, line's, correction's, grant's, credit note's, refund's, dispute's, payout's or
    movement's id; an invoice's or credit note's number; what the provider calls a payment, refund, dispute or payout;
    or CUSTOMER:ACCOUNT for a balance, the customer by the platform's id or by ours. `customer` narrows to one customer,
    and makes finding an id fast in a large journal.

    Raises:
        UnknownSubject, AmbiguousSubject: nothing, or more than one thing, has this name.
    """
    what = what.strip()
    customer_id = None if customer is None else find_books(session, customer)
    try:
        wanted = UUID(what)
    except ValueError:
        found = _named(session, what, customer_id)
    else:
        found = _identified(session, wanted, customer_id)
    if len(set(found)) > 1:
        owners = " and ".join(str(subject.customer_id) for subject in found[:2])
        raise AmbiguousSubject(f"{what!r} is in the books of {owners}. Say whose you mean: --customer ID.")
    if not found:
        if _books(session, what) is not None:
            raise UnknownSubject(
                f"{what!r} is a customer. Give an account of theirs, such as {what}:assets:unbilled, or ask for the "
                f"period so far: billing explain --customer {what}"
            )
        raise UnknownSubject(
            f"Nothing is named {what!r}{'' if customer is None else f' in the books of {customer!r}'}. Give the id of "
            "an entry, transaction, invoice or line, an invoice's number, a payment's id, or CUSTOMER:ACCOUNT, such as "
            "acme:assets:unbilled."
        )
    return found[0]


def find_books(session: Session, customer: str) -> UUID:
    """The books of the customer that the platform calls so, or that have this id.

    Raises:
        UnknownSubject: there is none.
    """
    found = _books(session, customer)
    if found is None:
        raise UnknownSubject(f"There is no customer {customer!r}. Search with: billing customers list")
    return found


def _books(session: Session, customer: str) -> UUID | None:
    candidates = [customer_id_for(customer)]
    with contextlib.suppress(ValueError):
        candidates.append(UUID(customer))
    known = set(session.scalars(select(Books.customer_id).where(Books.customer_id.in_(candidates))))
    return next((candidate for candidate in candidates if candidate in known), None)


def _named(session: Session, what: str, customer_id: UUID | None) -> list[Subject]:
    codes = accounts.CUSTOMER_ACCOUNTS | accounts.HOUSE_ACCOUNTS
    # The platform's ids may hold colons as well: the account is the longest one that the text ends in.
    for account in sorted(codes, key=len, reverse=True):
        if what.endswith(f":{account}"):
            return [Subject("balance", find_books(session, what.removesuffix(f":{account}")), account=account)]
        if what == account and customer_id is not None:
            return [Subject("balance", customer_id, account=account)]
    for account_starts in (place for place, letter in enumerate(what) if letter == ":"):
        if _books(session, what[:account_starts]) is not None:
            account = what[account_starts + 1 :]
            raise UnknownSubject(f"{account!r} is no account. The accounts are: {', '.join(sorted(codes))}.")
    numbered = select(Invoice.customer_id, Invoice.id).where(Invoice.number == what.upper())
    found = [Subject("invoice", *row) for row in session.execute(_of(numbered, Invoice.customer_id, customer_id))]
    if found:
        return found
    paid = select(Payment).where(Payment.external_id == what)
    subjects: list[Subject] = []
    for payment in session.scalars(_of(paid, Payment.customer_id, customer_id)):
        transaction = transaction_id(f"payment:{payment.provider}", payment.external_id)
        ids = [entry_id(transaction, leg) for leg in ("due", "unapplied")]
        subjects += [
            Subject("entry", *key) for key in find_entries(session, ids=ids, customer_id=payment.customer_id)[:1]
        ]
    return subjects or _happened(session, what, customer_id)


def _happened(session: Session, what: str, customer_id: UUID | None) -> list[Subject]:
    """A credit note by its number; a refund, dispute or payout by what the provider calls it."""
    subjects: list[Subject] = []
    for table, column in HAPPENINGS:
        rows = session.execute(
            _of(select(table.customer_id, table.id).where(column == what), table.customer_id, customer_id)
        )
        for owner, document_id in rows:
            subjects += _of_document(session, owner, document_id)
    return subjects


def _of_document(session: Session, owner: UUID, document_id: UUID) -> list[Subject]:
    """The first entry about a document; of a credit note that only lowered what was open, that one."""
    first = session.scalar(
        select(Entry.id)
        .where(Entry.customer_id == owner, Entry.document_id == document_id)
        .order_by(Entry.seq)
        .limit(1)
    )
    if first is None:
        lowered = entry_id(transaction_id("invoicing:credit_note", str(document_id)), "unpaid")
        first = session.scalar(select(Entry.id).where(Entry.customer_id == owner, Entry.id == lowered))
    return [] if first is None else [Subject("entry", owner, first)]


def _identified(session: Session, wanted: UUID, customer_id: UUID | None) -> list[Subject]:
    """In the order of what it costs to look: keys first, then lines, then the whole journal."""
    found = find_entries(session, ids=[wanted], customer_id=customer_id)
    if found:
        return [Subject("entry", *key) for key in found]
    documents = _documents(session, wanted, customer_id)
    if documents:
        return documents
    corrections = select(Adjustment.customer_id, Adjustment.entry_id).where(Adjustment.id == wanted)
    rows = session.execute(_of(corrections, Adjustment.customer_id, customer_id)).all()
    if rows:
        return [Subject("entry", *row) for row in rows]
    lines = session.execute(
        _of(select(Line.customer_id, Line.id).where(Line.id == wanted), Line.customer_id, customer_id)
    ).all()
    if lines:
        return [Subject("line", *row) for row in lines]
    begun = select(Movement.customer_id, Movement.invoice_id).where(Movement.id == wanted)
    moved = session.execute(_of(begun, Movement.customer_id, customer_id)).all()
    if moved:
        return [Subject("invoice", *row) for row in moved]
    _refuse_other_ids(session, wanted)
    # A transaction has no row of its own. Its id makes the ids of its entries, if we know how they are called.
    legs = find_entries(session, ids=[entry_id(wanted, leg) for leg in LEGS], customer_id=customer_id, limit=20)
    if not legs:
        legs = find_transaction(session, transaction_id=wanted, customer_id=customer_id)
    one_each = {owner: (owner, leg) for owner, leg in reversed(legs)}
    return [Subject("entry", *key) for key in one_each.values()]


def _documents(session: Session, wanted: UUID, customer_id: UUID | None) -> list[Subject]:
    inner = (
        select(Document.customer_id, Document.kind)
        .where(Document.customer_id == Books.customer_id, Document.id == wanted)
        .correlate(Books)
        .limit(1)
        .lateral()
    )
    query = select(inner.c.customer_id, inner.c.kind).select_from(Books).join(inner, literal(True))
    subjects: list[Subject] = []
    for owner, kind in session.execute(_of(query, Books.customer_id, customer_id).limit(2)):
        if kind == "invoice":
            subjects.append(Subject("invoice", owner, wanted))
            continue
        subjects += _of_document(session, owner, wanted)
    return subjects


def _refuse_other_ids(session: Session, wanted: UUID) -> None:
    """Say it if the id is one of something that has no amount of its own."""
    if session.get(Books, wanted) is not None:
        raise UnknownSubject(
            f"{wanted} is a customer. Say which balance: {wanted}:ACCOUNT, such as {wanted}:{accounts.UNBILLED}."
        )
    price = session.get(Price, wanted)
    if price is not None:
        raise UnknownSubject(f"{wanted} is a price of {price.item!r}. Give an entry or a line that has it.")


def _of(query: Select[*tuple[Any, ...]], column: Any, customer_id: UUID | None) -> Select[*tuple[Any, ...]]:
    return query if customer_id is None else query.where(column == customer_id)

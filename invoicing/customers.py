"""Customers: who is billed, in which currency, time zone and rhythm."""

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Row, Select, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.errors import InvoicingError
from invoicing.tables import Customer, Invoice, InvoicePrefix
from ledger.books import NAMESPACE, lock_books, open_books
from ledger.errors import LedgerError
from ledger.money import minor_units
from ledger.tables import Books
from ledger.zones import zone

MAX_DRAFT_WINDOW_S = 50 * 86_400
PREFIX_LENGTH = 8
PROVIDERS = ("stripe", "manual")
"""Who can collect: Stripe, or people by letter and bank transfer."""
DEFAULT_PROVIDER = "stripe"
# Crockford's base 32: no I, L, O, U, so that a number can be read out on the telephone.
_PREFIX_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


class CustomerNotFound(InvoicingError):
    """There is no such customer. Check the id, or create the customer first."""

    code = "unknown_customer"


class CustomerConflict(InvoicingError):
    """A customer with this external id exists with other details; nothing was changed."""

    code = "customer_conflict"


class CustomerRefused(InvoicingError):
    """Some details of the customer are not acceptable; `problems` names each: field, code, sentence."""

    code = "customer_refused"

    def __init__(self, problems: list[tuple[str, str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{field}: {message}" for field, _, message in problems))


@dataclass(frozen=True, slots=True)
class CustomerView:
    """A customer together with what stands in the books: currency, time zone, anchor day."""

    customer_id: UUID
    external_id: str
    name: str
    email: str | None
    currency: str
    time_zone: str
    anchor_day: int
    collection_method: str
    draft_window_s: int | None
    provider: str
    invoice_prefix: str
    created_at: datetime


def customer_id_for(external_id: str) -> UUID:
    """Our id of the platform's customer. Derived, so that fifty sign-ups at once still make one customer."""
    return uuid5(NAMESPACE, f"customer\x1f{external_id}")


def create_customer(
    session: Session,
    *,
    external_id: str,
    name: str,
    currency: str,
    actor: str,
    now: datetime,
    time_zone: str = "UTC",
    anchor_day: int = 1,
    email: str | None = None,
    collection_method: str = "automatic",
    draft_window_s: int | None = None,
    provider: str = DEFAULT_PROVIDER,
) -> tuple[CustomerView, bool]:
    """Create the customer and open the books; the same call again returns the same customer. The caller commits.

    The answer's second part says whether the customer is new. `anchor_day` is 1..31, `draft_window_s` 0..50 days in
    seconds or None for the default, `collection_method` "automatic" or "send_invoice", `provider` one of PROVIDERS; who
    pays by bank transfer ("manual") is always sent invoices.

    Raises:
        CustomerRefused: a detail is not acceptable; all are named.
        CustomerConflict: the external id exists with other details.
    """
    if provider == "manual":
        collection_method = "send_invoice"  # nobody else could charge them
    details: dict[str, object] = {
        "name": name,
        "email": email,
        "currency": currency,
        "time_zone": time_zone,
        "anchor_day": anchor_day,
        "collection_method": collection_method,
        "draft_window_s": draft_window_s,
        "provider": provider,
    }
    problems = _problems(external_id, details)
    if problems:
        raise CustomerRefused(problems)
    customer_id = customer_id_for(external_id)
    if session.get(Books, customer_id) is None:
        open_books(
            session, customer_id=customer_id, currency=currency, time_zone=time_zone, anchor_day=anchor_day, now=now
        )
    # Whoever else creates the same customer right now waits here, and then finds ours.
    lock_books(session, [customer_id])
    known = session.get(Customer, customer_id, populate_existing=True)
    if known is None:
        session.add(
            Customer(
                customer_id=customer_id,
                external_id=external_id,
                name=name,
                email=email,
                collection_method=collection_method,
                draft_window_s=draft_window_s,
                provider=provider,
                invoice_prefix=_claim_prefix(session, customer_id),
                last_invoice_number=0,
                created_at=now,
                created_by=actor,
            )
        )
        session.flush()
        return get_customer(session, customer_id=customer_id), True
    view = get_customer(session, customer_id=customer_id)
    changed = sorted(field for field, value in details.items() if getattr(view, field) != value)
    if changed:
        raise CustomerConflict(
            f"Customer {external_id!r} exists with another {', '.join(changed)}; nothing was changed. Send what it was "
            "created with, or use another external id."
        )
    return view, False


def change_provider(session: Session, *, customer_id: UUID, provider: str) -> CustomerView:
    """Let somebody else collect from this customer, from the next invoice on: those that are final stay where they are.

    The caller commits.

    Raises:
        CustomerNotFound, CustomerRefused.
    """
    if provider not in PROVIDERS:
        raise CustomerRefused([("provider", "bad_provider", f"Give one of {', '.join(PROVIDERS)}.")])
    customer = session.get(Customer, customer_id, with_for_update=True, populate_existing=True)
    if customer is None:
        raise CustomerNotFound(f"There is no customer {customer_id}. Check the id, or create the customer first.")
    customer.provider = provider
    if provider == "manual":
        customer.collection_method = "send_invoice"
    session.flush()
    return get_customer(session, customer_id=customer_id)


def _problems(external_id: str, details: dict[str, object]) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    if not 0 < len(external_id) <= 200 or not external_id.isprintable():
        found.append(("external_id", "bad_external_id", "Give 1 to 200 printable characters."))
    name = str(details["name"])
    if not 0 < len(name.strip()) <= 200 or not name.isprintable():
        found.append(("name", "bad_name", "Give 1 to 200 printable characters."))
    email = details["email"]
    if email is not None and (len(str(email)) > 320 or not _EMAIL.fullmatch(str(email))):
        found.append(("email", "bad_email", f"{str(email)[:80]!r} is no e-mail address."))
    for field, check in (("currency", minor_units), ("time_zone", zone)):
        try:
            check(str(details[field]))
        except LedgerError as refusal:
            found.append((field, refusal.code, str(refusal)))
    anchor_day = details["anchor_day"]
    if not isinstance(anchor_day, int) or not 1 <= anchor_day <= 31:
        found.append(("anchor_day", "bad_anchor_day", f"{anchor_day!r} is no day of a month: give 1 to 31."))
    if details["collection_method"] not in ("automatic", "send_invoice"):
        found.append(("collection_method", "bad_collection_method", 'Give "automatic" or "send_invoice".'))
    if details["provider"] not in PROVIDERS:
        found.append(("provider", "bad_provider", f"Give one of {', '.join(PROVIDERS)}."))
    window = details["draft_window_s"]
    if window is not None and (not isinstance(window, int) or not 0 <= window <= MAX_DRAFT_WINDOW_S):
        found.append(("draft_window_s", "bad_draft_window", f"Give 0 to {MAX_DRAFT_WINDOW_S} seconds (50 days)."))
    return found


def _claim_prefix(session: Session, customer_id: UUID) -> str:
    """A prefix that no other customer has, derived from the id so that a second try asks for the same one."""
    hashed = int.from_bytes(hashlib.sha256(customer_id.bytes).digest())
    letters = ""
    while hashed:
        hashed, digit = divmod(hashed, 32)
        letters += _PREFIX_ALPHABET[digit]
    for start in range(0, len(letters) - PREFIX_LENGTH, PREFIX_LENGTH):
        prefix = letters[start : start + PREFIX_LENGTH]
        session.execute(insert(InvoicePrefix).values(prefix=prefix, customer_id=customer_id).on_conflict_do_nothing())
        if session.scalar(select(InvoicePrefix.customer_id).where(InvoicePrefix.prefix == prefix)) == customer_id:
            return prefix
    raise AssertionError(f"no free invoice prefix for {customer_id}")


def _views() -> Select[*tuple[Any, ...]]:
    return select(
        Customer.customer_id,
        Customer.external_id,
        Customer.name,
        Customer.email,
        Books.currency,
        Books.time_zone,
        Books.anchor_day,
        Customer.collection_method,
        Customer.draft_window_s,
        Customer.provider,
        Customer.invoice_prefix,
        Customer.created_at,
    ).join(Books, Books.customer_id == Customer.customer_id)


def _view(row: Row[*tuple[Any, ...]]) -> CustomerView:
    return CustomerView(**row._mapping)


def get_customer(session: Session, *, customer_id: UUID) -> CustomerView:
    """One customer.

    Raises:
        CustomerNotFound: there is none with this id.
    """
    row = session.execute(_views().where(Customer.customer_id == customer_id)).one_or_none()
    if row is None:
        raise CustomerNotFound(f"There is no customer {customer_id}. Check the id, or create the customer first.")
    return _view(row)


def customers_by_id(session: Session, *, customer_ids: Sequence[UUID]) -> dict[UUID, CustomerView]:
    """Those of these customers that exist, by id."""
    rows = session.execute(_views().where(Customer.customer_id.in_(customer_ids)))
    return {row.customer_id: _view(row) for row in rows}


def search_customers(session: Session, *, query: str, limit: int = 50) -> list[CustomerView]:
    """Customers whose name, e-mail, external id, prefix, id or invoice number match, by name; all if `query` is blank.

    Text matches anywhere and in any case; ids and invoice numbers match whole.
    """
    words = query.strip()
    statement = _views()
    if words:
        pattern = "%" + words.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"
        matches = [
            Customer.name.ilike(pattern),
            Customer.email.ilike(pattern),
            Customer.external_id.ilike(pattern),
            Customer.invoice_prefix == words.upper(),
            Customer.customer_id.in_(select(Invoice.customer_id).where(Invoice.number == words.upper())),
        ]
        with suppress(ValueError):  # not a uuid: then it is not searched as one
            matches.append(Customer.customer_id == UUID(words))
        statement = statement.where(or_(*matches))
    rows = session.execute(statement.order_by(Customer.name, Customer.customer_id).limit(limit))
    return [_view(row) for row in rows]

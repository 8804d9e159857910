"""Credits: money that a customer may use up on invoices before anything is collected. Each grant is a lot of it."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.customers import get_customer
from invoicing.drafts import checked_reason
from invoicing.errors import InvoicingError
from invoicing.tables import CreditGrant, Item
from ledger import accounts
from ledger.books import lock_books
from ledger.documents import open_documents
from ledger.entries import NewEntry, digest, entry_id, transaction_id
from ledger.money import invoice_exponent
from ledger.posting import post

GRANTABLE = (accounts.CREDITS_PROMOTIONAL, accounts.CREDITS_GOODWILL)
MAX_GRANT = Decimal(10) ** 6  # major units
MAX_ITEMS = 100
PRIORITIES = (0, 1000)  # inclusive
USUAL_PRIORITY = 100


class CreditRefused(InvoicingError):
    """The credit is not acceptable: its kind or amount is not one that can be granted."""

    code = "credit_refused"


class CreditCurrencyDiffers(CreditRefused):
    """A credit is in the currency in which its customer is billed. Give the amount in that one."""

    code = "credit_currency_differs"


class BadCreditExpiry(CreditRefused):
    """A credit expires in the future, or never. Give a later time, or none."""

    code = "bad_credit_expiry"


class BadCreditItems(CreditRefused):
    """A credit is restricted to items that exist, or pays for everything."""

    code = "bad_credit_items"


class BadCreditPriority(CreditRefused):
    """A priority is a whole number from 0 (used first) to 1,000."""

    code = "bad_credit_priority"


class CreditConflict(InvoicingError):
    """A credit with this id was granted before with other details; nothing was written."""

    code = "credit_conflict"


def grant_credit(
    session: Session,
    *,
    customer_id: UUID,
    grant_id: UUID,
    account: str,
    amount: Decimal,
    reason: str,
    actor: str,
    now: datetime,
    priority: int = USUAL_PRIORITY,
    expires_at: datetime | None = None,
    items: Sequence[str] | None = None,
    currency: str | None = None,
) -> CreditGrant:
    """Give promotional or goodwill credit: `amount` above 0, in major units of the customer's currency.

    The same grant again returns the first one. It is used on invoices that are finalized from now on, lower `priority`
    first, for periods that end by `expires_at` (inclusive; None: for ever), on lines of these items (None: on all).
    `currency` is what the caller believes the customer is billed in. The caller commits.

    Raises:
        CustomerNotFound, CreditRefused (its subclasses say what of), CreditConflict, ReasonMissing.
    """
    reason = checked_reason(reason)
    customer = get_customer(session, customer_id=customer_id)
    if account not in GRANTABLE:
        raise CreditRefused("Only promotional and goodwill credit can be granted; prepaid credit is bought.")
    check_amount(amount, customer.currency, currency=currency)
    wanted = sorted(set(items)) if items else None
    lock_books(session, [customer_id])
    known = session.get(CreditGrant, (customer_id, grant_id))
    if known is not None:
        sent = (account, amount, priority, expires_at, wanted)
        if sent != (known.account, known.amount, known.priority, known.expires_at, known.items):
            raise CreditConflict("A credit with this id was granted before with other details; nothing was written.")
        return known
    if not PRIORITIES[0] <= priority <= PRIORITIES[1]:
        raise BadCreditPriority(f"Give a priority from {PRIORITIES[0]} (used first) to {PRIORITIES[1]:,}.")
    check_expiry(expires_at, now=now)
    _check_items(session, wanted)
    open_documents(session, [(customer_id, grant_id, None)], kind="grant", now=now)
    grant = CreditGrant(
        customer_id=customer_id,
        id=grant_id,
        account=account,
        amount=amount,
        reason=reason,
        actor=actor,
        created_at=now,
        currency=customer.currency,
        priority=priority,
        expires_at=expires_at,
        items=wanted,
    )
    session.add(grant)
    session.flush()
    transaction = transaction_id("invoicing:grant", str(grant_id))
    post(
        session,
        [
            NewEntry(
                customer_id=customer_id,
                id=entry_id(transaction, "grant"),
                transaction_id=transaction,
                debit_account=accounts.PROMOTIONS,
                credit_account=account,
                amount=amount,
                effective_at=now,
                kind="grant",
                actor=actor,
                reason=reason,
                digest=digest({"grant": grant_id, "account": account, "amount": amount}),
                document_id=grant_id,
            )
        ],
        now=now,
    )
    return grant


def check_amount(amount: Decimal, billed_in: str, *, currency: str | None = None) -> None:
    """Refuse what is no amount of credit in the customer's currency.

    Raises:
        CreditCurrencyDiffers, CreditRefused.
    """
    if currency is not None and currency != billed_in:
        raise CreditCurrencyDiffers(
            f"The customer is billed in {billed_in}, for good: credit in {currency} could pay for nothing. Give the "
            f"amount in {billed_in}."
        )
    exponent = invoice_exponent(billed_in)
    if not amount.is_finite() or not 0 < amount <= MAX_GRANT or amount != round(amount, exponent):
        raise CreditRefused(
            f"Give an amount above 0, up to {MAX_GRANT:,}, with at most {exponent} decimals in {billed_in}."
        )


def check_expiry(expires_at: datetime | None, *, now: datetime) -> None:
    """Refuse an expiry that is over, or that is no instant.

    Raises:
        BadCreditExpiry.
    """
    if expires_at is None:
        return
    if expires_at.tzinfo is None:
        raise BadCreditExpiry("Give the expiry with its zone, such as 2026-01-01T00:00:00Z.")
    if expires_at <= now:
        raise BadCreditExpiry(
            f"The credit would have expired at {expires_at.isoformat()} already. Give a later time, or none."
        )


def _check_items(session: Session, items: Sequence[str] | None) -> None:
    if items is None:
        return
    if len(items) > MAX_ITEMS:
        raise BadCreditItems(f"Restrict a credit to at most {MAX_ITEMS} items, or to none: then it pays for all.")
    known = set(session.scalars(select(Item.code).where(Item.code.in_(items))))
    if unknown := [item for item in items if item not in known]:
        raise BadCreditItems(
            f"There is no item {unknown[0]!r}. Use the codes of the price book (`billing prices list` shows them), or "
            "load its price first."
        )

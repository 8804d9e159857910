"""Credits: money that a customer may use up on invoices before anything is collected."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Session

from invoicing.customers import get_customer
from invoicing.drafts import checked_reason
from invoicing.errors import InvoicingError
from invoicing.tables import CreditGrant
from ledger import accounts
from ledger.books import lock_books
from ledger.documents import open_documents
from ledger.entries import NewEntry, digest, entry_id, transaction_id
from ledger.money import invoice_exponent
from ledger.posting import post

GRANTABLE = (accounts.CREDITS_PROMOTIONAL, accounts.CREDITS_GOODWILL)
MAX_GRANT = Decimal(10) ** 6  # major units


class CreditRefused(InvoicingError):
    """The credit is not acceptable: its kind or amount is not one that can be granted."""

    code = "credit_refused"


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
) -> CreditGrant:
    """Give promotional or goodwill credit: `amount` above 0, in major units of the customer's currency.

    The same grant again returns the first one. It is used on the next invoice that is finalized. The caller commits.

    Raises:
        CustomerNotFound, CreditRefused, CreditConflict, ReasonMissing.
    """
    reason = checked_reason(reason)
    customer = get_customer(session, customer_id=customer_id)
    exponent = invoice_exponent(customer.currency)
    if account not in GRANTABLE:
        raise CreditRefused("Only promotional and goodwill credit can be granted; prepaid credit is bought.")
    if not amount.is_finite() or not 0 < amount <= MAX_GRANT or amount != round(amount, exponent):
        raise CreditRefused(
            f"Give an amount above 0, up to {MAX_GRANT:,}, with at most {exponent} decimals in {customer.currency}."
        )
    lock_books(session, [customer_id])
    known = session.get(CreditGrant, (customer_id, grant_id))
    if known is not None:
        if (known.account, known.amount) != (account, amount):
            raise CreditConflict("A credit with this id was granted before with other details; nothing was written.")
        return known
    open_documents(session, [(customer_id, grant_id, None)], kind="grant", now=now)
    grant = CreditGrant(
        customer_id=customer_id,
        id=grant_id,
        account=account,
        amount=amount,
        reason=reason,
        actor=actor,
        created_at=now,
    )
    session.add(grant)
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

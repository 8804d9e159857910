"""Explaining credit: which lot is behind an entry, and what the entry did with it, in a sentence."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.credit.lots import lot_name
from invoicing.tables import CreditGrant, CreditUse
from ledger import accounts
from ledger.tables import Entry


def grant_behind(session: Session, entry: Entry) -> CreditGrant | None:
    """The lot of credit that an entry granted, sold, used, ended or gave back; None if it is about no lot.

    Before there were lots, one entry could use several: of these the first.
    """
    if not {entry.debit_account, entry.credit_account} & set(accounts.CREDITS):
        return None
    grant_id = session.scalar(
        select(CreditUse.grant_id)
        .where(CreditUse.customer_id == entry.customer_id, CreditUse.entry_id == entry.id)
        .order_by(CreditUse.id)
        .limit(1)
    )
    grant_id = grant_id or entry.document_id
    return session.get(CreditGrant, (entry.customer_id, grant_id)) if grant_id else None


def sentence_of_credit(grant: CreditGrant, entry: Entry, *, invoice: str) -> str:
    """What an entry did with a lot of credit; `invoice` is the words for the invoice that it is about."""
    lot = lot_name(grant.account, grant.amount, grant.currency, granted_at=grant.created_at, until=grant.expires_at)
    if entry.credit_account == grant.account:
        if entry.debit_account == accounts.BAD_DEBT:
            return f"{invoice[:1].upper()}{invoice[1:]} was paid after all: so much of its credit is there again."
        if entry.debit_account in (accounts.CHARGEBACKS, accounts.ADJUSTMENTS) and grant.invoice_id:
            return f"Money for {invoice} that had gone back is here after all: so much of its credit is there again."
        return f"{grant.actor} {'bought' if grant.invoice_id else 'granted'} the credit."
    if entry.credit_account == accounts.RECEIVABLE:
        return f"Credit of the customer paid for {invoice}: {lot}."
    return f"{lot} ended: {entry.reason}"

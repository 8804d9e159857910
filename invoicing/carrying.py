"""Carrying forward: what is too small to collect, or negative, moves to the customer's next period, unrounded."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from invoicing.tables import Invoice
from ledger import accounts
from ledger.entries import NewEntry, digest, entry_id, transaction_id
from ledger.periods import Period
from ledger.placing import next_billing_period
from ledger.posting import MAX_BATCH, post
from ledger.tables import UNBILLED_TOTALS


def carry_forward(session: Session, invoice: Invoice, *, actor: str, now: datetime) -> Period:
    """Move everything that is unbilled on this draft to the next open period; answers which. The caller commits.

    One pair of entries per item, price, usage period, app and region, so that the next invoice still says what it was:
    out of the old invoice (carried / unbilled), into the next period (unbilled / carried), at that period's start, as
    an opening balance is brought forward. Afterwards the old invoice's net unbilled is exactly 0.
    """
    target = next_billing_period(session, customer_id=invoice.customer_id, start=invoice.period_start, now=now)
    view = UNBILLED_TOTALS.c
    used = func.coalesce(view.usage_period_start, invoice.period_start)
    rows = session.execute(
        select(view.item, view.price_id, used, view.app, view.region, func.sum(view.amount))
        .where(
            view.customer_id == invoice.customer_id,
            (view.document_id.is_(None) & (view.period_start == invoice.period_start))
            | (view.document_id == invoice.id),
        )
        .group_by(view.item, view.price_id, used, view.app, view.region)
        .having(func.sum(view.amount) != 0)
        .order_by(view.item, view.price_id, used, view.app, view.region)
    )
    transaction = transaction_id("invoicing:carry", str(invoice.id))
    entries: list[NewEntry] = []
    for index, (item, price_id, usage_start, app, region, amount) in enumerate(rows):
        labels = {key: value for key, value in (("app", app), ("region", region)) if value is not None}
        out_of, into = (accounts.UNBILLED, accounts.CARRIED) if amount > 0 else (accounts.CARRIED, accounts.UNBILLED)
        out = NewEntry(
            customer_id=invoice.customer_id,
            id=entry_id(transaction, f"out:{index}"),
            transaction_id=transaction,
            debit_account=into,
            credit_account=out_of,
            amount=abs(amount),
            effective_at=target.start,
            kind="carry",
            actor=actor,
            reason=f"Carried forward to the period from {target.start.isoformat()}",
            digest=digest({"carries": invoice.id, "item": item, "app": app, "region": region, "amount": amount}),
            document_id=invoice.id,
            item=item,
            price_id=price_id,
            labels=labels,
        )
        brought = replace(
            out,
            id=entry_id(transaction, f"in:{index}"),
            debit_account=out_of,
            credit_account=into,
            reason=f"Carried forward from the period from {invoice.period_start.isoformat()}",
            document_id=None,
            period_start=target.start,
            usage_period_start=usage_start,
        )
        entries += [out, brought]
    for first in range(0, len(entries), MAX_BATCH):  # one transaction all the same: the caller commits
        post(session, entries[first : first + MAX_BATCH], now=now)
    return target

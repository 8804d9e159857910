"""The money, to the cent: what the books hold at Stripe is what Stripe's own movements add up to.

Of a customer: assets:stripe and what was passed on to the house (assets:house) are the sum of all of the customer's
balance transactions, plus payments that have not met the balance yet; a debit counts once its bank has paid. Of the
house: assets:stripe and what customers passed on (assets:customers) are the sum of the movements that are no
customer's; a payout counts once it is paid. Together they say that the account's balance at Stripe is what all books
hold there.

A customer's movement in another currency than the customer's was exchanged: for the customer it counts as what the
customer paid by it, for the house in the other currency as what Stripe says, and for the house in the customer's
currency as nothing, since no such money is at Stripe: there it went on to income:exchange.
"""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from ledger.books import house_id
from ledger.money import plain
from stripe_gateway.cash import PROVIDER
from stripe_gateway.house import house_of
from stripe_gateway.reconciliation.comparison import PAGE, Comparison
from stripe_gateway.tables import StripeCustomer

SETTLES_WITHIN = timedelta(days=10)
"""A payment meets the balance within seconds as a rule, some ways of paying within days; after this it is missing."""

TOUCHED = text("""
    SELECT c.customer_id
      FROM stripe_customers c
     WHERE (CAST(:after AS uuid) IS NULL OR c.customer_id > :after)
       AND (:is_full
         OR EXISTS (SELECT FROM stripe_transactions t WHERE t.customer_id = c.customer_id AND t.seen_at >= :since)
         OR EXISTS (SELECT FROM payments p WHERE p.customer_id = c.customer_id AND p.recorded_at >= :since)
         OR EXISTS (SELECT FROM stripe_effects e WHERE e.customer_id = c.customer_id AND e.at >= :since))
  ORDER BY c.customer_id
     LIMIT :limit
""")

CUSTOMERS = text("""
    WITH wanted AS (SELECT unnest(CAST(:ids AS uuid[])) AS customer_id),
    held AS (
        SELECT customer_id,
               sum(CASE WHEN debit_account IN ('assets:stripe', 'assets:house') THEN amount ELSE 0 END
                 - CASE WHEN credit_account IN ('assets:stripe', 'assets:house') THEN amount ELSE 0 END) AS amount
          FROM ledger_totals
         WHERE customer_id = ANY(:ids) AND (debit_account IN ('assets:stripe', 'assets:house')
               OR credit_account IN ('assets:stripe', 'assets:house'))
      GROUP BY customer_id),
    -- What met the balance in another currency counts as what the customer paid by it, once it was exchanged.
    transactions AS (
        SELECT t.customer_id, t.invoice_id, t.type,
               CASE WHEN t.currency = b.currency THEN t.amount ELSE coalesce(x.amount, 0) END AS amount,
               CASE WHEN t.currency = b.currency THEN t.net ELSE coalesce(x.amount, 0) END AS net
          FROM stripe_transactions t
          JOIN ledger_books b ON b.customer_id = t.customer_id
          LEFT JOIN exchanges x
            ON x.customer_id = t.customer_id AND x.provider = 'stripe' AND x.external_id = t.id
         WHERE t.customer_id = ANY(:ids) AND NOT t.is_under_way),
    moved AS (
        SELECT customer_id, sum(net) AS amount FROM transactions GROUP BY 1),
    paid AS (
        SELECT customer_id, invoice_id, max(received_at) AS received_at FROM payments
         WHERE customer_id = ANY(:ids) AND provider = 'stripe' GROUP BY 1, 2),
    cash AS (
        SELECT t.customer_id, t.document_id AS invoice_id, sum(t.amount) AS amount
          FROM ledger_totals t
          JOIN paid p ON p.customer_id = t.customer_id AND p.invoice_id = t.document_id
         WHERE t.customer_id = ANY(:ids) AND t.debit_account = 'assets:stripe' AND p.received_at >= :settled_by
           AND t.credit_account IN ('assets:receivable', 'liabilities:unapplied')
      GROUP BY 1, 2),
    met AS (
        SELECT customer_id, invoice_id, sum(amount) AS amount FROM transactions
         WHERE type IN ('charge', 'payment') GROUP BY 1, 2),
    under_way AS (
        SELECT c.customer_id, sum(greatest(c.amount - coalesce(m.amount, 0), 0)) AS amount
          FROM cash c LEFT JOIN met m ON m.customer_id = c.customer_id AND m.invoice_id = c.invoice_id
      GROUP BY 1)
    SELECT w.customer_id, b.currency, coalesce(h.amount, 0) AS held, coalesce(m.amount, 0) AS moved,
           coalesce(u.amount, 0) AS under_way
      FROM wanted w
      JOIN ledger_books b ON b.customer_id = w.customer_id
      LEFT JOIN held h ON h.customer_id = w.customer_id
      LEFT JOIN moved m ON m.customer_id = w.customer_id
      LEFT JOIN under_way u ON u.customer_id = w.customer_id
  ORDER BY w.customer_id
""")

ACCOUNTS = text("""
    SELECT t.currency, sum(t.net) AS moved
      FROM stripe_transactions t
      LEFT JOIN ledger_books b ON b.customer_id = t.customer_id
     WHERE (t.customer_id IS NULL OR b.currency <> t.currency) AND NOT t.is_under_way
       AND NOT EXISTS (SELECT FROM payouts p
                        WHERE p.external_id = t.payout AND p.status IN ('pending', 'in_transit'))
  GROUP BY t.currency ORDER BY t.currency
""")

HOUSE = text("""
    SELECT coalesce(sum(CASE WHEN debit_account IN ('assets:stripe', 'assets:customers') THEN amount ELSE 0 END
                      - CASE WHEN credit_account IN ('assets:stripe', 'assets:customers') THEN amount ELSE 0 END), 0)
      FROM ledger_totals
     WHERE customer_id = :house AND (debit_account IN ('assets:stripe', 'assets:customers')
           OR credit_account IN ('assets:stripe', 'assets:customers'))
       AND (debit_account, credit_account) NOT IN (('income:exchange', 'assets:customers'),
                                                   ('assets:customers', 'income:exchange'))
""")


def customers(work: Comparison, cursor: str | None) -> str | None:
    """A page of the customers whose money moved since the last run; of all of them in a full one."""
    if not work.place.is_unbounded:
        return None  # a window alone does not know every movement
    run = work.place.run
    with Session(work.engine) as session:
        found = session.scalars(
            TOUCHED,
            {
                "after": UUID(cursor) if cursor else None,
                "is_full": run.is_full,
                "since": run.window_from,
                "limit": PAGE,
            },
        ).all()
    _compare_customers(work, found)
    return str(found[-1]) if len(found) == PAGE else None


def _compare_customers(work: Comparison, customer_ids: Sequence[UUID]) -> None:
    if not customer_ids:
        return
    with Session(work.engine) as session:
        rows = session.execute(CUSTOMERS, {"ids": list(customer_ids), "settled_by": work.now - SETTLES_WITHIN}).all()
    for customer_id, currency, held, moved, under_way in rows:
        if held != moved + under_way:
            said = _said(held, moved, under_way, currency)
            work.differ("money_differs", str(customer_id), f"Of this customer {said}", customer_id=customer_id)


def accounts(work: Comparison, _cursor: str | None) -> str | None:
    """The house's part of the account's balance, in each currency."""
    if not work.place.is_unbounded:
        return None
    account = house_of(work.client).account
    with Session(work.engine) as session:
        rows = session.execute(ACCOUNTS).all()
        for currency, moved in rows:
            house = house_id(provider=PROVIDER, account=account, currency=currency)
            held = Decimal(session.scalar(HOUSE, {"house": house}) or 0)
            if held != moved:
                said = _said(held, moved, Decimal(0), currency)
                work.differ("money_differs", str(house), f"Of the account itself {said}")
    return None


def _said(held: Decimal, moved: Decimal, under_way: Decimal, currency: str) -> str:
    waiting = f" and {plain(under_way)} {currency} have not met its balance yet" if under_way else ""
    return (
        f"{plain(held)} {currency} stand in the books as held by Stripe; its own movements add up to {plain(moved)} "
        f"{currency}{waiting}. The difference is {plain(held - moved - under_way)} {currency}."
    )


def examine(work: Comparison, subject: str) -> None:
    """Compare one customer's money, or the account's."""
    try:
        books = UUID(subject)
    except ValueError:
        return
    accounts(work, None)
    with Session(work.engine) as session:
        is_customer = session.get(StripeCustomer, books) is not None
    if is_customer:
        _compare_customers(work, [books])

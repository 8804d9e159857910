"""What must hold after any fault, whoever died wherever: the invariants I1 to I8, each as questions to both sides.

I1 the books balance and the running totals equal the entries; I2 journal rows never change; I3 at most one invoice
that is not void per customer, period and kind; I4 the money that Stripe took is the money in the clearing account, per
customer; I5 no effect without a cause, no event without effect or a reason; I6 an invoice's total, its lines and its
entry are one amount, here and at Stripe; I7 the chain of seals verifies; I8 the customer sees what the ledger says.
"""

from collections import Counter, defaultdict
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.composition import Billing
from app.panel.current import current_page, owed_now
from app.panel.invoice_pages import invoice_rows
from invoicing import checks as invoicing_checks
from invoicing.customers import get_customer
from ledger import checks as ledger_checks
from ledger.balances import balances
from ledger.seals import seal_due
from ledger.verification import verify
from stripe_gateway import amounts
from stripe_gateway import checks as gateway_checks
from tests.faults.place import Place

CHECKS = {**ledger_checks.CHECKS, **invoicing_checks.CHECKS, **gateway_checks.CHECKS}
JOURNAL = text("SELECT md5(e::text) FROM ledger_entries e")
ALL_BOOKS = text("SELECT customer_id FROM ledger_books ORDER BY 1")
CUSTOMERS = text("SELECT customer_id FROM customers ORDER BY external_id")


def journal_rows(engine: Engine) -> set[str]:
    """A fingerprint of every row of the journal."""
    with Session(engine) as session:
        return set(session.scalars(JOURNAL))


def violations(place: Place, billing: Billing, *, before: set[str], now: datetime) -> list[str]:
    """Everything that is wrong. `before` are the journal's rows as the dead process left them."""
    found = []
    with Session(billing.engine) as session:
        found += [
            f"I1, I5, I6: {result.name}: {result.offenders}"
            for result in ledger_checks.run_checks(session, CHECKS)
            if not result.holds
        ]
        found += _doubled_invoices(session)
        found += _left_over(session)
        found += _panel(session, now=now)
    if not before <= journal_rows(billing.engine):
        found.append("I2: a row of the journal changed or is gone")
    found += _stripe(place, billing)
    found += _seals(billing, now=now)
    return found


def _doubled_invoices(session: Session) -> list[str]:
    rows = session.execute(
        text(
            "SELECT customer_id, period_start, kind, count(*) FROM invoices WHERE state <> 'void'"
            " GROUP BY 1, 2, 3 HAVING count(*) > 1"
        )
    )
    return [f"I3: {tuple(row)}" for row in rows]


def _left_over(session: Session) -> list[str]:
    """Everything came to an end, and what was set aside says why."""
    found = []
    for query in (
        "SELECT 'event ' || id, type, state, error FROM stripe_events WHERE state NOT IN ('done', 'ignored')"
        " AND NOT (state = 'parked' AND code IS NOT NULL AND error IS NOT NULL)",
        "SELECT 'sync ' || number, step, state, last_error FROM stripe_syncs WHERE state NOT IN ('done', 'canceled')",
        "SELECT 'operation ' || kind, step, state, last_error FROM stripe_operations"
        " WHERE state NOT IN ('done', 'refused')",
        "SELECT 'movement ' || kind, id::text, state, note FROM movements WHERE state = 'working'",
        "SELECT 'refund ' || id, state, failure_code FROM refunds WHERE state IN ('requested', 'pending')",
        "SELECT 'parked ' || stage, subject, code, reason FROM parked_work WHERE released_at IS NULL",
    ):
        found += [f"I5: {tuple(row)}" for row in session.execute(text(query))]
    return found


def _panel(session: Session, *, now: datetime) -> list[str]:
    """What each customer reads: what is owed, what runs up."""
    found = []
    for customer_id in session.scalars(CUSTOMERS).all():
        customer = get_customer(session, customer_id=customer_id)
        ledger = balances(session, customer_id=customer_id)
        owed = owed_now(invoice_rows(session, customer)).amount
        # What was written off is no receivable any more, and may be paid all the same.
        payable = ledger.get("assets:receivable", Decimal(0)) + ledger.get("expenses:bad_debt", Decimal(0))
        if owed != payable:
            found.append(f"I8: {customer.external_id} is told to pay {owed}; the ledger says {payable}")
        page = current_page(session, customer, now=now)
        drafts = session.scalar(
            text(
                "SELECT coalesce(sum(l.amount), 0) FROM invoice_lines l JOIN invoices i"
                " ON i.customer_id = l.customer_id AND i.id = l.invoice_id"
                " WHERE i.customer_id = :customer_id AND i.state = 'draft'"
            ),
            {"customer_id": customer_id},
        )
        shown = page.statement.total + sum((ended.total for ended in page.ended), Decimal(0)) + (drafts or 0)
        unbilled = ledger.get("assets:unbilled", Decimal(0))
        if shown != unbilled:
            found.append(f"I8: {customer.external_id} is shown {shown} as running up; the ledger says {unbilled}")
    return found


def _seals(billing: Billing, *, now: datetime) -> list[str]:
    summary = seal_due(billing.engine, now=now)
    with Session(billing.engine) as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        findings = verify(session).findings
    return [f"I7: {finding}" for finding in [*summary.problems, *findings]]


def _stripe(place: Place, billing: Billing) -> list[str]:
    """Hold our side against Stripe's: customers, invoices, money."""
    found = []
    stripe = place.stripe()
    ids: dict[UUID, list[str]] = defaultdict(list)
    for customer in stripe.each("customers"):
        ids[UUID(customer["metadata"]["ledger_customer_id"])].append(customer["id"])
    found += [f"I3: customer {ours} stands at Stripe as {theirs}" for ours, theirs in ids.items() if len(theirs) > 1]
    standing: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for invoice in stripe.each("invoices"):
        if invoice["status"] == "draft":
            found.append(f"I3: a draft was left at Stripe: {invoice['id']}")
        else:
            standing[invoice["metadata"]["ledger_invoice_id"]].append(invoice)
    with Session(billing.engine) as session:
        syncs = session.execute(
            text("SELECT invoice_id, number, state, external_id, amount_due_minor FROM stripe_syncs")
        ).all()
        owners: dict[str, UUID] = {
            row.external_id: row.customer_id
            for row in session.execute(text("SELECT external_id, customer_id FROM stripe_customers"))
        }
        booked = {
            customer_id: balances(session, customer_id=customer_id) for customer_id in session.scalars(ALL_BOOKS).all()
        }
    for sync in syncs:
        there = standing.pop(str(sync.invoice_id), [])
        if sync.state != "done":
            continue
        wanted = [(sync.external_id, sync.number, sync.amount_due_minor)]
        if [(one["id"], one["number"], one["total"]) for one in there] != wanted:
            found.append(f"I6: invoice {sync.number} should stand at Stripe once, as {wanted}: {there}")
    found += [f"I5: Stripe has an invoice that nobody asked for: {unknown}" for unknown in standing]
    return found + _money(place, owners, booked)


def _money(place: Place, owners: dict[str, UUID], booked: dict[UUID, dict[str, Decimal]]) -> list[str]:
    """I4: what Stripe took, kept and gave back for a customer is what lies in the clearing accounts, and in all."""
    held: dict[UUID, Decimal] = defaultdict(Decimal)
    stripe = place.stripe()
    charges = {charge["id"]: charge["customer"] for charge in stripe.each("charges")}
    sources = dict(charges)
    for kind in ("refunds", "disputes"):
        sources |= {one["id"]: charges[one["charge"]] for one in stripe.each(kind)}
    in_all = Decimal(0)
    for moved in stripe.each("balance_transactions"):
        net = amounts.from_minor(moved["net"], moved["currency"])
        in_all += net
        if moved["source"] in sources:
            held[owners[sources[moved["source"]]]] += net
    found = []
    for customer_id, accounts in booked.items():
        ours = accounts.get("assets:stripe", Decimal(0)) + accounts.get("assets:house", Decimal(0))
        if ours != held[customer_id]:
            found.append(f"I4: {customer_id} has {ours} in the books; Stripe moved {held[customer_id]}")
    ours = sum((accounts.get("assets:stripe", Decimal(0)) for accounts in booked.values()), Decimal(0))
    if ours != in_all:
        found.append(f"I4: all books together have {ours} at Stripe; Stripe holds {in_all}")
    return found


def books(place: Place, billing: Billing) -> dict[str, Any]:
    """Everything that a customer or an accountant could tell apart: equal after every fault to a run without one."""
    with Session(billing.engine) as session:
        tables = {
            name: [[str(value) for value in row] for row in session.execute(text(query))]
            for name, query in _COMPARED.items()
        }
    stripe = place.stripe()
    theirs = {
        "invoices at stripe": Counter(
            f"{one['number']} {one['status']} {one['total']} {one['amount_paid']}" for one in stripe.each("invoices")
        ),
        "charges at stripe": Counter(
            f"{one['status']} {one['amount_captured']} {one['amount_refunded']}" for one in stripe.each("charges")
        ),
        "refunds at stripe": Counter(f"{one['status']} {one['amount']}" for one in stripe.each("refunds")),
        "credit notes at stripe": Counter(
            f"{one['status']} {one['amount']} {one['out_of_band_amount']}" for one in stripe.each("credit_notes")
        ),
        "disputes at stripe": Counter(f"{one['status']} {one['amount']}" for one in stripe.each("disputes")),
        "money at stripe": Counter(f"{one['type']} {one['net']}" for one in stripe.each("balance_transactions")),
    }
    return tables | {name: sorted(counted.items()) for name, counted in theirs.items()}


_COMPARED = {
    "invoices": "SELECT customer_id, number, kind, generation, state, total, amount_due, amount_paid, amount_credited"
    " FROM invoices ORDER BY 1, 2, 3, 4",
    "payments": "SELECT customer_id, amount, applied FROM payments ORDER BY 1, 2, 3",
    "entries": "SELECT customer_id, kind, debit_account, credit_account, amount, count(*) FROM ledger_entries"
    " GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5",
    "history": "SELECT customer_id, from_state, to_state, count(*) FROM invoice_history WHERE to_state IS NOT NULL"
    " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    "movements": "SELECT customer_id, kind, amount, state FROM movements ORDER BY 1, 2, 3, 4",
    "credit notes": "SELECT customer_id, number, amount, unpaid_part, cash_part, credits_part FROM credit_notes"
    " ORDER BY 1, 2",
    "refunds": "SELECT customer_id, amount, state FROM refunds ORDER BY 1, 2, 3",
    "disputes": "SELECT customer_id, amount, status, withdrawn, reinstated, fees FROM disputes ORDER BY 1, 2",
    "payouts": "SELECT amount, status FROM payouts ORDER BY 1, 2",
    "tasks": "SELECT kind, customer_id, count(*) FROM tasks WHERE resolved_at IS NULL GROUP BY 1, 2 ORDER BY 1, 2",
    "operations": "SELECT kind, state, external_status FROM stripe_operations ORDER BY 1, 2, 3",
    "outbox": "SELECT number, state, external_status FROM stripe_syncs ORDER BY 1",
}

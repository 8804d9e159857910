"""What staff begin with a final invoice, in one line each; and what happens at Stripe without us."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from invoicing import checks as invoicing_checks
from invoicing.movements.requests import get_movement, request_movement
from invoicing.movements.tables import CreditNote, Dispute, Movement, Refund, Task
from invoicing.settings import Settings
from invoicing.tables import Invoice
from ledger.books import NAMESPACE
from ledger.checks import CHECKS, run_checks
from stripe_gateway import checks as gateway_checks
from stripe_gateway.client import Client, Json
from stripe_gateway.tables import StripeOperation
from tests.gateway.conftest import Town, now

DAY = timedelta(days=1)


def pump(town: Town, *, rounds: int = 2) -> None:
    """Let Stripe say everything, and handle it; what that asks of Stripe is for `town.sync`."""
    for _ in range(rounds):
        town.settle()
        town.deliver(town.fetch())
        town.handle(tries=2)


def paid(town: Town, name: str = "acme", *amounts: str, card: str = "pm_card_visa") -> Invoice:
    """An invoice that was charged and whose cash is in the books."""
    invoice = town.invoice(name, *amounts, card=card)
    town.sync()
    pump(town)
    return invoice


def standing(town: Town, name: str = "acme", *amounts: str) -> Invoice:
    """An open invoice at Stripe, sent to the customer."""
    invoice = town.invoice(name, *amounts)
    town.sync()
    return invoice


def movement_id(invoice: Invoice, kind: str, number: int = 1) -> UUID:
    return uuid5(NAMESPACE, f"test {invoice.id} {kind} {number}")


def begin(
    town: Town,
    invoice: Invoice,
    kind: str,
    amount: str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    number: int = 1,
    at: datetime | None = None,
) -> UUID:
    """Begin a movement as staff do; nothing is sent yet."""
    given = movement_id(invoice, kind, number)
    with Session(town.engine) as session, session.begin():
        request_movement(
            session,
            customer_id=invoice.customer_id,
            invoice_id=invoice.id,
            movement_id=given,
            kind=kind,
            amount=None if amount is None else Decimal(amount),
            options=options or {},
            reason="The customer asked for it.",
            actor="agent@demo.test",
            provider=town.gateway,
            settings=Settings(approval_limit=Decimal(1_000_000)),
            now=at or now(),
        )
    return given


def credit(town: Town, invoice: Invoice, amount: str, paid_part: str = "refund", number: int = 1) -> UUID:
    return begin(town, invoice, "credit_note", amount, options={"paid_part": paid_part}, number=number)


def void(town: Town, invoice: Invoice, then: str = "rebill") -> UUID:
    return begin(town, invoice, "void", options={"then": then})


def outside(town: Town, invoice: Invoice) -> UUID:
    options = {"received_at": "2025-07-20T00:00:00+00:00", "reference": "SEPA 4711"}
    return begin(town, invoice, "outside_payment", options=options)


def movement(town: Town, invoice: Invoice, given: UUID) -> Movement:
    with Session(town.engine, expire_on_commit=False) as session:
        return get_movement(session, customer_id=invoice.customer_id, movement_id=given)


def state(town: Town, invoice: Invoice) -> str:
    with Session(town.engine) as session:
        return session.get_one(Invoice, (invoice.customer_id, invoice.id)).state


def refunds(town: Town) -> list[Refund]:
    return _all(town, select(Refund).order_by(Refund.requested_at, Refund.id))


def credit_notes(town: Town) -> list[CreditNote]:
    return _all(town, select(CreditNote))


def disputes(town: Town) -> list[Dispute]:
    return _all(town, select(Dispute))


def operations(town: Town, kind: str | None = None) -> list[StripeOperation]:
    found = _all(town, select(StripeOperation).order_by(StripeOperation.created_at, StripeOperation.kind))
    return [one for one in found if kind in (None, one.kind)]


def tasks(town: Town) -> list[str]:
    """The kinds of the open tasks."""
    return sorted(_all(town, select(Task.kind).where(Task.resolved_at.is_(None))))


def _all(town: Town, query: Any) -> list[Any]:
    with Session(town.engine, expire_on_commit=False) as session:
        return list(session.scalars(query))


def balances(town: Town) -> dict[str, dict[str, Decimal]]:
    """Every account of every books that is not at 0, by holder."""
    query = text("""
        SELECT b.holder || ' ' || coalesce(c.external_id, b.currency) AS books, t.account, sum(t.amount) AS amount
          FROM (SELECT customer_id, debit_account AS account, amount FROM ledger_entries
                 UNION ALL SELECT customer_id, credit_account, -amount FROM ledger_entries) t
          JOIN ledger_books b USING (customer_id) LEFT JOIN customers c USING (customer_id)
      GROUP BY 1, 2 HAVING sum(t.amount) <> 0 ORDER BY 1, 2""")
    found: dict[str, dict[str, Decimal]] = {}
    with town.engine.connect() as connection:
        for books, account, amount in connection.execute(query):
            found.setdefault(books, {})[account] = amount.normalize()
    return found


def held(town: Town, name: str, account: str) -> Decimal:
    """Debits less credits of an account of a customer's books."""
    return balances(town).get(f"customer {name}", {}).get(account, Decimal(0))


def charge_of(town: Town, invoice: Invoice) -> str:
    """The charge that paid an invoice."""
    town.sandbox.advance(0)  # what is due now, the charge above all, is done when this returns
    row = town.row(invoice)
    [payment] = [
        one for one in town.gateway.client.list_invoice_payments(invoice=row.external_id) if one["status"] == "paid"
    ]
    intent = town.gateway.client.retrieve_payment_intent(payment["payment"]["payment_intent"])
    return str(intent["latest_charge"])


def at_stripe(town: Town, invoice: Invoice) -> Json:
    external_id = town.row(invoice).external_id
    assert external_id is not None
    return town.gateway.client.retrieve_invoice(external_id)


def check(town: Town) -> None:
    """Every rule of the books, of invoices and of the gateway holds."""
    with Session(town.engine) as session:
        for result in run_checks(session, {**CHECKS, **invoicing_checks.CHECKS, **gateway_checks.CHECKS}):
            assert result.holds, f"{result.name}: {result.offenders}"


def record_there(client: Client, amount: int, invoice: str, *, key: str) -> None:
    """Somebody writes a payment past Stripe down there, in USD cents, and attaches it to the invoice."""
    record = client.report_payment(
        {
            "amount_requested": {"currency": "usd", "value": amount}, "initiated_at": 1_790_000_000,
            "outcome": "guaranteed", "guaranteed": {"guaranteed_at": 1_790_000_000},
            "payment_method_details": {"type": "custom", "custom": {"display_name": "Cheque"}},
        }, key=key,
    )  # fmt: skip
    client.attach_payment(invoice, {"payment_record": record["id"]}, key=f"{key} attached")

"""docs/accounting.md, "A customer's year, entry by entry": every entry, line and balance of it comes from the books."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy.orm import Session

from invoicing.credit.grants import grant_credit
from invoicing.credit.top_ups import top_up
from invoicing.drafts import InvoiceView, get_invoice, list_invoices
from invoicing.finalization import finalize
from invoicing.movements.refunds import refunds_of, settle_refund
from invoicing.movements.requests import movement_done, request_movement
from invoicing.movements.tables import Movement
from invoicing.payments import record_payment
from invoicing.plans.catalogue import plans_from_file, publish_plans
from invoicing.prices.changes import load_content
from invoicing.prices.files import parse_document, read_prices
from invoicing.subscriptions import change_at_end, subscribe
from invoicing.tax.invoices import taxes_of
from invoicing.usage.intake import UsageRecord, post_usage
from ledger import accounts
from ledger.balances import balances
from ledger.money import plain
from tests.docs.test_accounting import journal, section
from tests.invoicing.conftest import Company, at, company
from tests.invoicing.taxed import load, profile, rates_file

__all__ = ["company"]

D = Decimal
AGENT = "agent@demo.test"
PRICES = """
currency = "USD"
valid_from = 2025-01-01T00:00:00Z

[[items]]
code = "egress"
name = "Outbound data"
unit = "GB"
model = "graduated"
included = 10
tiers = [{ first = 0, unit_amount = 0.10 }, { first = 100, unit_amount = 0.05 }]

[[items]]
code = "domain"
name = "Domain"
unit = "year"
unit_amount = 11.90
tax_inclusive = true

[[plans]]
code = "launch"
name = "Launch"
currency = "USD"
fee = 30
interval = "month"
timing = "advance"
included_usage = 30
"""


class Year:
    """The customer, and what happens to it; each call is one transaction, as at the edge."""

    def __init__(self, company: Company) -> None:
        self.company = company
        self.engine = company.engine
        self.customer_id: UUID = company.customer("acme")
        document = parse_document(PRICES.encode())
        with Session(self.engine) as session, session.begin():
            content = read_prices(document)
            load_content(session, content=content, title="Prices", publish=True, actor=AGENT, now=at("2025-01-01"))
            publish_plans(session, plans_from_file(document), actor=AGENT, now=at("2025-01-01"))
        load(self.engine, rates_file(("DE", "VAT", "19")))
        profile(self.engine, "acme", "DE")

    def id_of(self, name: str) -> UUID:
        return uuid5(self.customer_id, name)

    def use(self, day: str, quantity: str, item: str = "egress") -> None:
        record = UsageRecord(
            row=1, event_id=f"{day} {item}", customer="acme", item=item, quantity=D(quantity), effective_at=at(day)
        )
        with Session(self.engine) as session, session.begin():
            post_usage(session, [record], source="meter", actor="meter", now=at(day) + timedelta(minutes=1))

    def pay(self, invoice_id: UUID, amount: str, day: str) -> None:
        with Session(self.engine) as session, session.begin():
            record_payment(
                session, customer_id=self.customer_id, invoice_id=invoice_id, provider="stripe",
                external_id=f"inpay_{day}", amount=D(amount), received_at=at(day), actor="stripe", now=at(day),
            )  # fmt: skip

    def ask(self, invoice_id: UUID, kind: str, day: str, amount: str | None = None, **options: str) -> Movement:
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            return request_movement(
                session, customer_id=self.customer_id, invoice_id=invoice_id, movement_id=self.id_of(f"{kind} {day}"),
                kind=kind, amount=None if amount is None else D(amount), options=options, reason="Agreed by phone",
                actor=AGENT, provider=self.company.provider, settings=self.company.settings, now=at(day),
            )  # fmt: skip

    def refunded(self, invoice_id: UUID, day: str) -> None:
        with Session(self.engine) as session, session.begin():
            (refund,) = refunds_of(session, customer_id=self.customer_id, invoice_id=invoice_id)
            settle_refund(
                session, customer_id=self.customer_id, refund_id=refund.id, status="succeeded", external_id="re_1",
                failure_code=None, failure_reason=None, at=at(day), actor="stripe", now=at(day),
            )  # fmt: skip

    def done(self, movement: Movement, day: str) -> None:
        with Session(self.engine) as session, session.begin():
            movement_done(
                session, customer_id=self.customer_id, movement_id=movement.id, external_id=None, at=at(day),
                actor="stripe", now=at(day),
            )  # fmt: skip

    def final(self, invoice_id: UUID, day: str) -> InvoiceView:
        with Session(self.engine, expire_on_commit=False) as session:
            with session.begin():
                finalize(
                    session, customer_id=self.customer_id, invoice_id=invoice_id, provider=self.company.provider,
                    actor=AGENT, now=at(day),
                )  # fmt: skip
            return get_invoice(session, customer_id=self.customer_id, invoice_id=invoice_id)

    def draft(self) -> UUID:
        with Session(self.engine) as session:
            (draft,) = [i for i in list_invoices(session, customer_id=self.customer_id) if i.state == "draft"]
            return draft.id

    def table(self, view: InvoiceView) -> str:
        """An invoice as the page shows it: lines, taxes, credits, what is due."""
        invoice = view.invoice
        rows = ["| line | exact | on the invoice |", "|---|---:|---:|"]
        rows += [f"| {line.description} | {plain(line.amount)} | {line.rounded} |" for line in view.lines]
        with Session(self.engine) as session:
            for tax in taxes_of(session, customer_id=self.customer_id, invoice_id=invoice.id):
                where = "included in" if tax.inclusive else "on"
                rows.append(f"| {tax.name} {plain(tax.percent)} % {where} {tax.taxable} | | {tax.amount} |")
        rows.append(f"| **total** | | {invoice.total} |")
        rows.append(f"| paid by credit | | {-(invoice.credits_applied or 0)} |")
        rows.append(f"| **due** | | {invoice.amount_due} |")
        return "\n".join(rows)


def june(year: Year) -> InvoiceView:
    """Credit is given and bought, a plan begins in the middle of the month, usage climbs over allowance and tiers."""
    with Session(year.engine) as session, session.begin():
        grant_credit(
            session, customer_id=year.customer_id, grant_id=year.id_of("welcome"), reason="Welcome",
            account=accounts.CREDITS_PROMOTIONAL, amount=D(5), actor=AGENT, now=at("2025-06-02"),
            expires_at=at("2025-09-01"),
        )  # fmt: skip
    with Session(year.engine) as session, session.begin():
        top_up(
            session, customer_id=year.customer_id, top_up_id=year.id_of("top-up"), amount=D(10), actor=AGENT,
            provider=year.company.provider, now=at("2025-06-03"),
        )  # fmt: skip
    year.pay(year.id_of("top-up"), "10", "2025-06-04")
    with Session(year.engine) as session, session.begin():
        subscribe(
            session, customer_id=year.customer_id, plan="launch", reason="Wanted", actor=AGENT, now=at("2025-06-16")
        )
    year.use("2025-06-20", "90")
    year.use("2025-06-25", "60")
    year.use("2025-06-26", "1", "domain")
    with Session(year.engine) as session, session.begin():
        change_at_end(
            session, customer_id=year.customer_id, plan=None, reason="Too large", actor=AGENT, now=at("2025-06-27")
        )
    year.company.close("2025-07-01")
    return year.final(year.draft(), "2025-07-02")


def test_the_year_on_the_page_is_what_the_books_say(company: Company) -> None:
    year = Year(company)
    first = june(year)
    year.pay(first.invoice.id, str(first.invoice.amount_due), "2025-07-03")
    year.ask(first.invoice.id, "credit_note", "2025-07-04", "2.38", paid_part="refund")
    year.refunded(first.invoice.id, "2025-07-05")
    year.use("2025-07-20", "12")
    company.close("2025-08-01")
    assert year.final(year.draft(), "2025-08-02").invoice.state == "carried_forward"
    year.use("2025-08-20", "110")
    company.close("2025-09-01")
    wrong = year.final(year.draft(), "2025-09-02")
    void = year.ask(wrong.invoice.id, "void", "2025-09-03", then="rebill")
    year.done(void, "2025-09-03")
    again = year.final(year.draft(), "2025-09-04")
    year.pay(again.invoice.id, str(again.invoice.amount_due), "2025-09-05")

    shown = ["| account | balance |", "|---|---:|"]
    with Session(year.engine) as session:
        held = balances(session, customer_id=year.customer_id)
        shown += [f"| `{code}` | {plain(amount)} |" for code, amount in held.items()]
        found = {
            "June's invoice": year.table(first),
            "The invoice for July and August, voided and billed again": year.table(again),
            "The journal of the year": journal(session, year.customer_id),
            "The balances at the end of the year": "\n".join(shown),
        }
    for title, table in found.items():
        assert table == section(title), f"{title}\n{table}"
    company.check()

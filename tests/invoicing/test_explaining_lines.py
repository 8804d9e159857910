"""Lines that no price makes, explained: plan fees by the second, what was carried, corrections, top-ups; and tax."""

from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.adjustments import add_charge
from invoicing.credit.top_ups import top_up
from invoicing.customers import customer_id_for
from invoicing.drafts import InvoiceNotFound, get_invoice
from invoicing.explaining.of_line import LineExplanation, explain_line
from invoicing.explaining.words import facts_of_line
from invoicing.plans.catalogue import plans_from_file, publish_plans
from invoicing.subscriptions import cancel, subscribe
from invoicing.tables import Invoice
from invoicing.usage.intake import UsageRecord, post_usage
from tests.invoicing.conftest import Company, at
from tests.invoicing.taxed import load, profile, rates_file

LAUNCH = {
    "code": "launch", "name": "Launch", "currency": "USD", "fee": 30, "interval": "month", "timing": "advance",
    "included_usage": 30,
}  # fmt: skip
PLANS = {
    "plans": [
        LAUNCH,
        {**LAUNCH, "code": "scale", "name": "Scale", "fee": 300, "included_usage": 0},
        {**LAUNCH, "interval": "year", "fee": 365, "included_usage": 0},
    ]
}


@pytest.fixture
def acme(company: Company) -> Company:
    with Session(company.engine) as session, session.begin():
        publish_plans(session, plans_from_file(PLANS), actor="test", now=at("2025-01-01"))
    company.customer("acme")
    return company


def take(company: Company, plan: str, on: str, interval: str = "month") -> None:
    with Session(company.engine) as session, session.begin():
        subscribe(
            session, customer_id=customer_id_for("acme"), plan=plan, interval=interval, reason="Wanted", actor="ada",
            now=at(on),
        )  # fmt: skip


def lines(company: Company, start: str, *, kind: str = "cycle") -> list[LineExplanation]:
    """Every line of acme's invoice for the period, explained; all of them add up."""
    customer_id = customer_id_for("acme")
    with Session(company.engine, expire_on_commit=False) as session:
        invoice_id = session.scalars(
            select(Invoice.id).where(Invoice.kind == kind, Invoice.period_start >= at(start)).order_by(
                Invoice.period_start
            )
        ).first()  # fmt: skip
        assert invoice_id is not None
        found = [
            explain_line(
                session, customer_id=customer_id, invoice_id=invoice_id, line_id=line.id, provider=company.provider
            )
            for line in get_invoice(session, customer_id=customer_id, invoice_id=invoice_id).lines
        ]
        assert all(line.adds_up for line in found)
        return found


def steps(found: LineExplanation) -> list[tuple[str, Decimal]]:
    assert found.charge is not None
    return [(step.words, step.amount) for step in found.charge.steps]


def test_an_upgrade_explains_both_halves_to_the_second(acme: Company) -> None:
    take(acme, "launch", "2025-06-01")
    used = UsageRecord(
        row=1, event_id="1", customer="acme", item="machine", quantity=Decimal(1), effective_at=at("2025-06-10"),
        amount=Decimal(100),
    )  # fmt: skip
    with Session(acme.engine) as session, session.begin():
        post_usage(session, [used], source="test", actor="test", now=at("2025-06-11"))
    take(acme, "scale", "2025-06-16")
    acme.close("2025-07-01")
    by_item = {line.line.item: line for line in lines(acme, "2025-06-01")}
    assert steps(by_item["plan:launch"]) == [
        ("charged: 2025-06-01T00:00:00Z to 2025-07-01T00:00:00Z, a whole month", Decimal(30)),
        (
            "given back: 2025-06-16T00:00:00Z to 2025-07-01T00:00:00Z, 1296000 of 2592000 seconds of a fee of 30",
            Decimal(-15),
        ),
    ]
    assert steps(by_item["plan:launch:included"]) == [("usage came to 100, of which 15 is included", Decimal(-15))]
    taken_back = by_item["plan:scale:included"].charge
    assert taken_back is not None
    assert (taken_back.charge.amount, taken_back.on_other_lines) == (Decimal(15), Decimal(-30))


def test_a_year_that_is_given_up_names_its_seconds(acme: Company) -> None:
    """365 for 365 days from June 1: of them 30 days are June's, so 335 come back on July 1."""
    take(acme, "launch", "2025-06-01", "year")
    with Session(acme.engine) as session, session.begin():
        cancel(session, customer_id=customer_id_for("acme"), reason="Leaves", actor="ada", now=at("2025-07-11"))
    acme.close("2025-08-01")
    (found,) = lines(acme, "2025-07-01")
    ((words, amount),) = steps(found)
    assert (words[:11], amount) == ("given back:", Decimal(-325))
    assert words.endswith("28080000 of 31536000 seconds of a fee of 365")


def test_what_was_carried_names_the_period_that_it_comes_from(company: Company) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "0.4912345")
    company.close("2025-07-01")
    company.finalize("acme", "2025-06", on="2025-07-02")
    (june,) = lines(company, "2025-06-01")
    assert june.untaxed == "What is carried forward bears no tax: the invoice that bills it is taxed."
    company.use("acme", "2025-07-05", "2")
    company.close("2025-08-01")
    carried = next(line for line in lines(company, "2025-07-01") if line.charge and line.charge.is_carried)
    assert steps(carried) == [
        ("from the invoice for 2025-06-01T00:00:00Z to 2025-07-01T00:00:00Z", Decimal("0.4912345"))
    ]


def test_shares_of_rounding_and_of_each_tax_add_up_to_the_invoices(company: Company) -> None:
    company.customer("acme")
    load(company.engine, rates_file(("US", "Sales tax", "6.25"), ("US-CA", "City tax", "1.3")))
    profile(company.engine, "acme", "US", state="CA")
    for item, amount in (("machine", "3.335"), ("volume", "7.1249"), ("ipv4", "-0.0051")):
        company.use("acme", "2025-06-05", amount, item=item)
    company.close("2025-07-01")
    draft = lines(company, "2025-06-01")
    view = company.finalize("acme", "2025-06", on="2025-07-02")
    final = lines(company, "2025-06-01")
    for found in (draft, final):
        assert sum(line.rounding.share for line in found if line.rounding) == view.rounded_total
        for place in range(2):
            shares = [line.taxes[place] for line in found]
            assert sum(tax.amount for tax in shares) == shares[0].of_all == view.taxes[place].amount
    assert [line.taxes for line in draft] == [line.taxes for line in final]


def test_corrections_and_bought_credit_need_no_price(company: Company) -> None:
    customer_id = company.customer("acme")
    company.use("acme", "2025-06-03", "5")
    company.close("2025-07-01")
    with Session(company.engine) as session, session.begin():
        invoice_id = session.scalars(select(Invoice.id)).one()
        add_charge(
            session, customer_id=customer_id, invoice_id=invoice_id, expected_version=1, amount=Decimal(500),
            description="Setup", reason="Agreed", actor="test", settings=company.settings, now=at("2025-07-02"),
        )  # fmt: skip
        top_up(
            session, customer_id=customer_id, top_up_id=uuid4(), amount=Decimal(100), provider=company.provider,
            reason="Wanted", actor="test", now=at("2025-07-02"),
        )  # fmt: skip
    correction = next(line for line in lines(company, "2025-06-01") if line.adjustment)
    assert (correction.charge, correction.line.amount) == (None, Decimal(500))
    (sold,) = lines(company, "2025-07-01", kind="top_up")
    assert ("Credit", "Prepaid credit that was bought: it pays for later invoices.") in facts_of_line(
        sold, time_zone="UTC"
    )
    with Session(company.engine) as session, pytest.raises(InvoiceNotFound):  # it awaits a second person
        explain_line(
            session, customer_id=customer_id, invoice_id=invoice_id, line_id=correction.line.id, for_staff=False
        )


def test_a_line_of_another_customer_is_not_found(company: Company) -> None:
    company.customer("acme")
    other = company.customer("other")
    company.use("acme", "2025-06-03", "5")
    company.close("2025-07-01")
    (found,) = lines(company, "2025-06-01")
    for customer_id, invoice_id, line_id in (
        (other, found.invoice.id, found.line.id),
        (found.invoice.customer_id, found.invoice.id, UUID(int=1)),
    ):
        with Session(company.engine) as session, pytest.raises(InvoiceNotFound):
            explain_line(session, customer_id=customer_id, invoice_id=invoice_id, line_id=line_id)

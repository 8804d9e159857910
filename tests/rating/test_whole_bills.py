"""Whole bills of random worlds, with discounts, plans, taxes on top and inside, and credit: as shown, so billed."""

import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from app.panel.current import current_page
from invoicing import checks as invoicing_checks
from invoicing.credit.grants import grant_credit
from invoicing.customers import get_customer
from invoicing.drafts import InvoiceView, get_invoice
from invoicing.finalizing import finalize_due
from invoicing.statements import unbilled_periods
from invoicing.tables import CreditUse, Invoice
from invoicing.tax.invoices import taxes_of
from ledger import accounts
from ledger.checks import CHECKS, run_checks
from ledger.money import round_half_even
from tests.fakes.provider import RememberingProvider
from tests.invoicing.taxed import load, profile, rates_file
from tests.rating.company import NOW, RatedCompany
from tests.rating.worlds import ALWAYS, CHANGES, CUSTOMERS, ITEMS, Row, World, decimals, so_many, worlds

CENT = Decimal("0.01")
TAXES: dict[str, list[Decimal]] = {"US": [], "DE": [Decimal(19)], "CA": [Decimal(5), Decimal("9.975")]}
"""What is due in each country, in percent; "CA" is Quebec."""


@st.composite
def taxed_worlds(draw: st.DrawFn, *, most: int) -> tuple[World, Row]:
    """A random world in which some items are sold with tax inside, and where each customer is taxed and credited."""
    world = draw(worlds(most=most))
    inside = draw(st.sets(st.sampled_from(ITEMS)))
    prices = [price | {"tax_inclusive": price["item"] in inside} for price in world.book["prices"]]
    lots = st.fixed_dictionaries(
        {
            "account": st.sampled_from(("promotional", "goodwill")),
            "amount": decimals("0.01", "300", 2),
            "expires_at": st.sampled_from((None, CHANGES[1], CHANGES[2], NOW)),
            "items": st.sampled_from((None, None, *ITEMS)),
        }
    )
    agreed = {
        "countries": {name: draw(st.sampled_from(sorted(TAXES))) for name in CUSTOMERS},
        "credits": {name: draw(st.lists(lots, max_size=3)) for name in CUSTOMERS},
    }
    return replace(world, book=world.book | {"prices": prices}), agreed


@pytest.mark.parametrize(
    ("examples", "events"),
    [(4, 30), pytest.param(300, 50, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])],
)
def test_what_is_shown_at_any_moment_is_what_an_invoice_of_that_moment_bills(
    engine: Engine, examples: int, events: int
) -> None:
    """Lines + tax = total, total - credit = due; rounded by half a cent at most, and each tax too."""
    load(engine, rates_file(("DE", "VAT", "19"), ("CA", "GST", "5"), ("CA-QC", "QST", "9.975")))
    numbers = itertools.count()
    compared = itertools.count()

    @so_many(examples)
    @given(drawn=taxed_worlds(most=events))
    def hold(drawn: tuple[World, Row]) -> None:
        world, agreed = drawn
        company = RatedCompany(engine, world.book, number=next(numbers))
        settle_in(company, agreed)
        live_through(company, world)
        for _ in range(bill_everything(company, agreed)):
            next(compared)

    hold()
    assert next(compared) > examples, "too few bills to say anything"
    with Session(engine) as session:
        for result in run_checks(session, {**CHECKS, **invoicing_checks.CHECKS}):
            assert result.holds, f"{result.name}: {result.offenders}"


def settle_in(company: RatedCompany, agreed: Row) -> None:
    """Where each customer is taxed, and what credit each was given."""
    for name, country in agreed["countries"].items():
        state = {"state": "QC"} if country == "CA" else {}
        profile(company.engine, company.name(name), country, valid_from=ALWAYS, now=NOW, details=state)
    with Session(company.engine) as session, session.begin():
        for name, lots in agreed["credits"].items():
            for number, lot in enumerate(lots):
                grant_credit(
                    session,
                    customer_id=company.customer_id(name),
                    grant_id=uuid5(company.customer_id(name), str(number)),
                    account=f"liabilities:credits:{lot['account']}",
                    amount=lot["amount"],
                    expires_at=lot["expires_at"],
                    items=None if lot["items"] is None else [company.name(lot["items"])],
                    reason="Welcome",
                    actor="test",
                    now=ALWAYS,
                )


def live_through(company: RatedCompany, world: World) -> None:
    for step in world.steps:
        company.take(world, step)


def bill_everything(company: RatedCompany, agreed: Row) -> int:
    """Look at every open period as its customer would, then bill it all; how many bills there were to compare."""
    shown = {name: totals_shown(company, name) for name in CUSTOMERS}
    company.close(NOW + timedelta(days=40))
    provider = RememberingProvider()
    summary = finalize_due(company.engine, provider=provider, as_of=NOW + timedelta(days=60))
    assert summary.problems == []
    bills = 0
    with Session(company.engine) as session:
        for name in CUSTOMERS:
            for view in final_invoices(session, company.customer_id(name)):
                adds_up(session, view)
                is_taxed(session, view, company, TAXES[agreed["countries"][name]])
                total = shown[name].get(view.invoice.period_start)
                if total is not None and not any(line.contra_account == accounts.CARRIED for line in view.lines):
                    assert view.invoice.total == total
                    bills += 1
    return bills


def totals_shown(company: RatedCompany, name: str) -> dict[datetime, Decimal]:
    """The total with tax that the panel shows of each open period, by its start."""
    shown = {}
    with Session(company.engine) as session:
        customer = get_customer(session, customer_id=company.customer_id(name))
        for statement in unbilled_periods(session, customer_id=customer.customer_id):
            page = current_page(session, customer, now=statement.start)
            assert page.statement == statement
            for breakdown in (statement.by_app, statement.by_region, statement.by_day):
                assert sum((row.amount for row in breakdown), Decimal(0)) == statement.total
            shown[statement.start] = page.with_tax
    return shown


def final_invoices(session: Session, customer_id: UUID) -> list[InvoiceView]:
    query = select(Invoice.id).where(Invoice.customer_id == customer_id, Invoice.state.in_(("final", "paid")))
    return [get_invoice(session, customer_id=customer_id, invoice_id=found) for found in session.scalars(query)]


def adds_up(session: Session, view: InvoiceView) -> None:
    invoice = view.invoice
    exact = sum((line.amount for line in view.lines), Decimal(0))
    rounded = sum((line.rounded or Decimal(0) for line in view.lines), Decimal(0))
    assert rounded == round_half_even(exact, 2)
    assert invoice.total == rounded + invoice.tax
    used = session.scalar(select(func.sum(CreditUse.amount)).where(CreditUse.invoice_id == invoice.id))
    assert invoice.credits_applied == (used or 0)
    assert invoice.amount_due == invoice.total - invoice.credits_applied >= 0
    for line in view.lines:
        assert line.rounded is not None
        assert abs(line.rounded - line.amount) <= CENT


def is_taxed(session: Session, view: InvoiceView, company: RatedCompany, percents: list[Decimal]) -> None:
    """Each tax is within half a cent of the exact one on its lines, what is sold with tax inside stays as it was."""
    gross: dict[bool, Fraction] = {True: Fraction(0), False: Fraction(0)}
    for line in view.lines:
        price = company.price_of(line.price_id)
        if price is not None:
            assert line.tax_inclusive is price["tax_inclusive"]
        elif line.price_id is None:  # rated by its source, or of a plan
            assert not line.tax_inclusive
        gross[line.tax_inclusive] += Fraction(line.amount)
    net = {True: gross[True] / (1 + Fraction(sum(percents)) / 100), False: gross[False]}
    found: dict[bool, list[Any]] = {True: [], False: []}
    for tax in taxes_of(session, customer_id=view.invoice.customer_id, invoice_id=view.invoice.id):
        found[tax.inclusive].append(tax)
        exact = net[tax.inclusive] * Fraction(tax.percent) / 100
        assert abs(Fraction(tax.amount) - exact) <= Fraction(CENT) / 2
    invoice = view.invoice
    assert invoice.tax == sum((tax.amount for tax in found[False]), Decimal(0))
    assert invoice.tax_included == sum((tax.amount for tax in found[True]), Decimal(0))
    for inclusive in (True, False):
        if any(line.tax_inclusive is inclusive for line in view.lines):
            assert sorted(tax.percent for tax in found[inclusive]) == sorted(percents)

"""Tax at Stripe: our own amounts with each line, so that its totals are ours."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invoicing.provider import CollectionOrder, OrderLine, OrderTax
from stripe_gateway import bodies, taxes
from stripe_gateway.amounts import to_minor
from stripe_gateway.bodies import MAX_LINES, OrderDoesNotAddUp
from tests.gateway.conftest import Town
from tests.invoicing.taxed import load, price, profile, rates_file, use_priced

START, END = datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC)
INVOICE = UUID("6f1d1c1e-8f43-4a39-9b0c-000000000002")


def taxed_line(number: int, cents: int, rates: tuple[int, ...], *, items: int = 10**6) -> OrderLine:
    """A line with these rates on top, by number; every third line's tax is inside."""
    return OrderLine(
        line_id=uuid5(INVOICE, str(number)),
        item=f"item-{number % items}",
        description=f"Line {number}",
        amount=Decimal(cents) / 100,
        period_start=START,
        period_end=END,
        taxes=tuple(
            OrderTax(f"Tax {rate}", "CA-QC", Decimal(rate), number % 3 == 0, Decimal(cents) / 100, Decimal(rate) / 100)
            for rate in rates
        ),
    )


def order(lines: list[OrderLine], *, due: Decimal | None = None) -> CollectionOrder:
    total = sum(
        (line.amount + sum(tax.amount for tax in line.taxes if not tax.inclusive) for line in lines), Decimal(0)
    )
    return CollectionOrder(
        customer_id=uuid5(INVOICE, "customer"),
        invoice_id=INVOICE,
        number="ACME01-1",
        currency="USD",
        amount_due=total if due is None else due,
        collection_method="automatic",
        period_start=START,
        period_end=END,
        lines=lines,
        customer_name="Acme",
        customer_email="billing@acme.test",
        customer_external_id="acme",
    )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-500, 5000), st.lists(st.integers(1, 60), max_size=4, unique=True)),
        min_size=1,
        max_size=320,
    ),
    st.sampled_from([3, 10**6]),
)
def test_however_lines_are_grouped_their_taxes_are_all_there(parts: list[tuple[int, list[int]]], items: int) -> None:
    lines = [taxed_line(number, cents, tuple(rates), items=items) for number, (cents, rates) in enumerate(parts)]
    made = bodies.lines_of(lines, "USD")
    assert len(made) <= MAX_LINES
    assert all(len(line.get("tax_amounts", ())) <= taxes.MAX_TAXES for line in made)
    assert sum(line["amount"] for line in made) + taxes.on_top_of(made) == to_minor(order(lines).amount_due, "USD")
    for inclusive in (False, True):
        assert sum(
            tax["amount"]
            for line in made
            for tax in line.get("tax_amounts", ())
            if tax["tax_rate_data"]["inclusive"] is inclusive
        ) == sum(to_minor(tax.amount, "USD") for line in lines for tax in line.taxes if tax.inclusive is inclusive)


def test_a_line_of_nothing_that_bears_a_cent_of_tax_is_sent() -> None:
    [made] = bodies.lines_of([taxed_line(1, 0, (1,))], "USD")
    assert (made["amount"], made["tax_amounts"][0]["amount"]) == (0, 1)


def test_an_order_whose_tax_is_not_in_its_amount_due_is_refused() -> None:
    lines = [taxed_line(1, 1000, (19,))]
    with pytest.raises(OrderDoesNotAddUp, match="with tax"):
        bodies.intent_of(order(lines, due=Decimal(10)))


def test_the_legal_note_stands_at_the_foot_of_stripes_invoice() -> None:
    asked = replace(order([taxed_line(1, 1000, ())]), legal_notes=("Reverse charge",))
    assert bodies.part_of(bodies.intent_of(asked).text, "create")["footer"] == "Reverse charge"


@pytest.mark.parametrize(
    ("seed", "count"), [(3, 8), pytest.param(4, 120, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
def test_stripes_totals_are_ours_whatever_is_taxed(town: Town, seed: int, count: int) -> None:
    random = Random(seed)
    company = town.company
    currencies = ("USD", "JPY", "KWD")
    prices = {
        (currency, inclusive): price(company.engine, f"item-{int(inclusive)}", currency, inclusive=inclusive)
        for currency in currencies
        for inclusive in (False, True)
    }
    rates = (("CA", "GST", "5"), ("CA-QC", "QST", "9.975"), ("DE", "VAT", "19"), ("DE", "VAT", "7", "item-1"))
    load(company.engine, rates_file(*rates))
    for number in range(count):
        name, currency = f"customer-{number}", currencies[number % 3]
        company.customer(name, currency=currency)
        country, state = random.choice([("CA", ""), ("CA", "QC"), ("DE", ""), ("US", "")])
        profile(company.engine, name, country, state=state)
        for inclusive in (False, True):
            use_priced(
                company,
                name,
                "2025-06-03",
                str(Decimal(random.randint(10**8, 10**10)) / 10**6),
                item=f"item-{int(inclusive)}",
                price_id=prices[currency, inclusive],
            )
    company.close("2025-07-02")
    company.finalize_due("2025-07-10")
    assert town.sync().synced == count
    town.assert_each_stands_once()
    standing = town.standing()
    for number in range(count):
        invoice = company.invoice(f"customer-{number}", "2025-06").invoice
        [stripes] = standing[str(invoice.id)]
        total, tax, inside = (
            to_minor(amount or Decimal(0), invoice.currency)
            for amount in (invoice.total, invoice.tax, invoice.tax_included)
        )
        assert (stripes["total"], stripes["total_excluding_tax"]) == (total, total - tax - inside)
        assert sum(found["amount"] for found in stripes["total_taxes"]) == tax + inside

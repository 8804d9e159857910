"""Random taxed customers, from usage to the last credit note: the books hold together, to the minor unit."""

from decimal import Decimal
from random import Random

import pytest
from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from invoicing.tax.invoices import taxes_of
from ledger import accounts
from ledger.balances import balances
from ledger.money import invoice_exponent
from tests.invoicing.conftest import Company
from tests.invoicing.desk import Desk
from tests.invoicing.taxed import load, price, profile, rates_file, use_priced


@pytest.mark.parametrize(
    ("seed", "count"), [(1, 9), pytest.param(2, 300, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]
)
def test_random_invoices_hold_together_in_the_books(company: Company, seed: int, count: int) -> None:
    """Net within half a unit, each tax too; inclusive lines as they were; lines + tax = total; credited in full, 0."""
    random = Random(seed)
    load(
        company.engine,
        rates_file(("CA", "GST", "5"), ("CA-QC", "QST", "9.975"), ("DE", "VAT", "19"), ("JP", "JCT", "10"))
    )  # fmt: skip
    prices = {
        (currency, inclusive): price(company.engine, f"item-{inclusive}", currency, inclusive=inclusive)
        for currency in ("USD", "JPY", "KWD")
        for inclusive in (False, True)
    }
    gross: dict[str, Decimal] = {}
    for number in range(count):
        name, currency = f"customer-{number}", random.choice(["USD", "JPY", "KWD"])
        company.customer(name, currency=currency)
        country, state = random.choice([("CA", ""), ("CA", "QC"), ("DE", ""), ("JP", ""), ("US", "CA")])
        profile(company.engine, name, country, state=state)
        for inclusive in random.choice([(False,), (True,), (False, True)]):
            amount = Decimal(random.randint(60 * 10**6, 10**11)) / 10**6
            gross[name] = gross.get(name, Decimal(0)) + amount
            item = f"item-{inclusive}"
            use_priced(company, name, "2025-06-03", str(amount), item=item, price_id=prices[currency, inclusive])
    company.close("2025-07-02")
    assert company.finalize_due("2025-07-10").final == count
    for name, exact in gross.items():
        view = company.invoice(name, "2025-06")
        invoice = view.invoice
        unit = Decimal(1).scaleb(-invoice_exponent(invoice.currency))
        lines = sum(line.rounded for line in view.lines if line.rounded is not None)
        assert abs(lines - exact) <= unit / 2
        assert invoice.total == lines + invoice.tax == invoice.amount_due
        with Session(company.engine) as session:
            taxes = taxes_of(session, customer_id=invoice.customer_id, invoice_id=invoice.id)
            for inclusive in (False, True):
                assert (invoice.tax_included if inclusive else invoice.tax) == sum(
                    tax.amount for tax in taxes if tax.inclusive is inclusive
                )
            owed = balances(session, customer_id=customer_id_for(name)).get(accounts.TAX, Decimal(0))
            assert owed == invoice.tax + invoice.tax_included
    company.check()
    _credit_everything(company, list(gross), random)


def _credit_everything(company: Company, names: list[str], random: Random) -> None:
    """Partial credit notes of random size until nothing is left: then nothing is owed to tax offices either."""
    for name in names[:4]:
        desk = Desk.__new__(Desk)
        desk.company, desk.engine, desk.customer_id = company, company.engine, customer_id_for(name)
        desk.invoice_id = company.invoice(name, "2025-06").invoice.id
        invoice = desk.invoice()
        units = int((invoice.total or Decimal(0)).scaleb(invoice_exponent(invoice.currency)))
        while units:
            part = units if units < 3 else random.randint(1, units)
            movement = desk.ask("credit_note", str(Decimal(part).scaleb(-invoice_exponent(invoice.currency))))
            if movement.state == "awaiting_approval":
                desk.approve(movement)
            units -= part
        with Session(company.engine) as session:
            held = balances(session, customer_id=customer_id_for(name))
        assert not held.get(accounts.TAX, Decimal(0)), name
        assert not held.get(accounts.TAX_INCLUDED, Decimal(0)), name
        assert not held.get(accounts.RECEIVABLE, Decimal(0)), name
    company.check()

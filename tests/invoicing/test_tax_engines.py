"""Whoever says what tax is due: an answer that does not add up never stands on an invoice."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid5

import pytest
from sqlalchemy.orm import Session

from invoicing.finalization import finalize
from invoicing.tax.engine import Assessment, BadAssessment, Tax, TaxableLine, TooManyTaxes
from tests.invoicing.conftest import Company, at
from tests.invoicing.taxed import load, profile, rates_file

D = Decimal
STRANGE = uuid5(UUID(int=0), "a line of nobody's")


@dataclass(frozen=True)
class Careless:
    """A tax engine whose answer is wrong in one way: 19 on the one line of 100, but for `wrong`."""

    wrong: str

    def assess(
        self, session: Session, *, customer_id: UUID, currency: str, at: datetime, lines: Sequence[TaxableLine]
    ) -> Assessment:
        (line,) = lines
        tax = Tax("rate", None, "DE", "VAT", D(19), False, D(19), {line.line_id: D(19)})
        wrong = {
            "a third of a cent": replace(tax, amount=D("19.003"), shares={line.line_id: D("19.003")}),
            "shares that do not add up": replace(tax, shares={line.line_id: D(18)}),
            "a line that is not there": replace(tax, shares={STRANGE: D(19)}),
            "inside a price without tax": replace(tax, inclusive=True),
        }
        return Assessment((wrong[self.wrong],))


@pytest.mark.parametrize(
    "wrong",
    ["a third of a cent", "shares that do not add up", "a line that is not there", "inside a price without tax"],
)
def test_an_answer_that_does_not_add_up_makes_no_invoice(company: Company, wrong: str) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "100")
    company.close("2025-07-01")
    draft = company.invoice("acme", "2025-06").invoice
    with pytest.raises(BadAssessment), Session(company.engine) as session, session.begin():
        finalize(
            session,
            customer_id=draft.customer_id,
            invoice_id=draft.id,
            provider=company.provider,
            actor="test",
            now=at("2025-07-02"),
            taxes=Careless(wrong),
        )
    assert company.invoice("acme", "2025-06").invoice.state == "draft"
    company.check()


def test_more_taxes_than_an_invoice_can_carry_are_refused_before_it_is_final(company: Company) -> None:
    """21 rates of one country, and Stripe takes 20 on a line."""
    load(company.engine, rates_file(*(("DE", f"Tax {number}", "1") for number in range(21))))
    company.customer("acme")
    profile(company.engine, "acme", "DE")
    company.use("acme", "2025-06-03", "100")
    company.close("2025-07-01")
    with pytest.raises(TooManyTaxes, match="21 tax rates"):
        company.finalize("acme", "2025-06", on="2025-07-02")
    assert company.invoice("acme", "2025-06").invoice.state == "draft"

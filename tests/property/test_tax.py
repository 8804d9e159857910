"""Random lines, rates and currencies: tax is right to half a minor unit, and what includes it never changes."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID, uuid5

from hypothesis import given, settings
from hypothesis import strategies as st

from invoicing.tax.engine import TaxableLine, assess_at, checked
from invoicing.tax.tables import TaxRate
from ledger.money import invoice_exponent

SPACE = UUID("6f1d1c1e-8f43-4a39-9b0c-0000000000aa")
PERCENTS = ("0", "2.5", "5", "7", "7.7", "9.975", "19", "20", "25", "100")
ITEMS = ("machine", "volume", "egress", None)
START = datetime(2020, 1, 1, tzinfo=UTC)


def rate(jurisdiction: str, name: str, percent: str, item: str | None = None) -> TaxRate:
    rate_id = uuid5(SPACE, f"{jurisdiction} {name} {item}")
    return TaxRate(
        id=rate_id, jurisdiction=jurisdiction, name=name, percent=Decimal(percent), item=item, valid_from=START
    )


RATES = st.lists(
    st.builds(
        rate,
        st.sampled_from(["CA", "CA-QC"]),
        st.sampled_from(["GST", "QST", "PST"]),
        st.sampled_from(PERCENTS),
        st.sampled_from([None, None, "volume", "egress"]),
    ),
    max_size=6,
    unique_by=lambda rate: rate.id,
)
LINES = st.lists(
    st.builds(
        lambda item, amount, inclusive: (item, amount, inclusive),
        st.sampled_from(ITEMS),
        st.decimals(-1000, 100_000, allow_nan=False, allow_infinity=False, places=12),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(RATES, LINES, st.sampled_from(["USD", "JPY", "KWD"]))
def test_each_tax_is_its_exact_sum_rounded_once_and_its_shares_are_all_of_it(
    rates: list[TaxRate], lines: list[tuple[str | None, Decimal, bool]], currency: str
) -> None:
    taxable = [
        TaxableLine(uuid5(SPACE, str(number)), item, amount, inclusive)
        for number, (item, amount, inclusive) in enumerate(lines)
    ]
    found = checked(assess_at(rates, taxable, currency=currency), taxable, currency=currency)
    half = Fraction(1, 2 * 10 ** invoice_exponent(currency))
    for tax in found.taxes:
        exact = sum((_exact(rates, line, tax.tax_rate_id) for line in taxable if line.inclusive is tax.inclusive),
                    Fraction(0))  # fmt: skip
        assert abs(Fraction(tax.amount) - exact) <= half
        assert sum(tax.shares.values()) == tax.amount
        assert all(abs(Fraction(tax.shares[line.line_id]) - _exact(rates, line, tax.tax_rate_id)) < 2 * half
                   for line in taxable if line.line_id in tax.shares)  # fmt: skip
    assert {(tax.tax_rate_id, tax.inclusive) for tax in found.taxes} == {
        (rate.id, line.inclusive) for line in taxable for rate in _applied(rates, line.item)
    }


def _applied(rates: list[TaxRate], item: str | None) -> list[TaxRate]:
    """By the words of the rule: an item's own rate stands in place of the one of the same place and name."""
    best: dict[tuple[str, str], TaxRate] = {}
    for found in sorted(rates, key=lambda found: found.item is not None):
        if found.item in (None, item):
            best[found.jurisdiction, found.name] = found
    return list(best.values())


def _exact(rates: list[TaxRate], line: TaxableLine, rate_id: UUID | None) -> Fraction:
    applied = {found.id: Fraction(found.percent) / 100 for found in _applied(rates, line.item)}
    if rate_id not in applied:
        return Fraction(0)
    net = Fraction(line.amount) / (1 + sum(applied.values())) if line.inclusive else Fraction(line.amount)
    return net * applied[rate_id]

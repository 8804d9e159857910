"""Tax: what is due on the lines of an invoice, by place and time; exact first, each tax rounded once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Literal, Protocol
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, defer

from invoicing.errors import InvoicingError
from invoicing.tax.profiles import profile_at
from invoicing.tax.tables import TaxProfile, TaxRate, tax_title
from ledger.money import EXACT, invoice_exponent, split_cents

Treatment = Literal["rate", "reverse_charge", "exempt"]

MAX_RATES = 20  # on one line. Source: `tax_amounts` of https://docs.stripe.com/api/invoices/add_lines
LAST_INSTANT = timedelta(microseconds=1)
"""Before the end of a period: the tax point of everything in it."""
NAMES = {"reverse_charge": "Reverse charge", "exempt": "Exempt from tax"}


class TooManyTaxes(InvoicingError):
    """More taxes apply to one line than an invoice can carry. End the rates that are there twice."""

    code = "too_many_taxes"


class BadAssessment(InvoicingError):
    """The tax engine's answer does not add up. Nothing was finalized; its maker must look at it."""

    code = "bad_assessment"


@dataclass(frozen=True, slots=True)
class TaxableLine:
    """One line: `amount` exact, in major units, of either sign; with `inclusive` its taxes are inside of it."""

    line_id: UUID
    item: str | None
    amount: Decimal
    inclusive: bool


@dataclass(frozen=True, slots=True)
class Tax:
    """One tax of one invoice: `amount` in major units, rounded, and each taxed line's share of it.

    Where no tax is due for a reason (`treatment` is not "rate") percent, amount and shares are 0, and `legal_note` is
    what the invoice must say.
    """

    treatment: Treatment
    tax_rate_id: UUID | None
    jurisdiction: str
    name: str
    percent: Decimal
    inclusive: bool
    amount: Decimal
    shares: Mapping[UUID, Decimal]
    legal_note: str | None = None

    @property
    def title(self) -> str:
        """As people read it: "VAT 19 % (DE)"."""
        return tax_title(self.name, self.percent, self.jurisdiction, treatment=self.treatment)


@dataclass(frozen=True, slots=True)
class Assessment:
    """What is due on the lines of one invoice."""

    taxes: Sequence[Tax] = field(default_factory=tuple)

    @property
    def on_top(self) -> Decimal:
        """What comes on top of the lines."""
        return sum((tax.amount for tax in self.taxes if not tax.inclusive), Decimal(0))

    @property
    def included(self) -> Decimal:
        """What is inside lines whose prices include it."""
        return sum((tax.amount for tax in self.taxes if tax.inclusive), Decimal(0))

    @property
    def legal_notes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(tax.legal_note for tax in self.taxes if tax.legal_note is not None))


UNTAXED = Assessment()


class TaxEngine(Protocol):
    """Who says what tax is due. It is asked inside the transaction that makes an invoice final.

    So it makes no HTTP call: an outside service is asked beforehand, and its answer kept in the database.
    """

    def assess(
        self, session: Session, *, customer_id: UUID, currency: str, at: datetime, lines: Sequence[TaxableLine]
    ) -> Assessment:
        """The taxes on these lines at the tax point `at`, each rounded once, half-even, to whole minor units.

        Writes nothing. Of an inclusive line the amount stays as it is. The same question has the same answer until
        somebody changes rates or profiles.
        """
        ...


class TaxTable:
    """The tax engine that reads the tables `tax_profiles` and `tax_rates`.

    A customer without a profile, or in a place without rates, is not taxed.
    """

    def assess(
        self, session: Session, *, customer_id: UUID, currency: str, at: datetime, lines: Sequence[TaxableLine]
    ) -> Assessment:
        """See `TaxEngine.assess`.

        Raises:
            TooManyTaxes: more than 20 rates apply to one line.
        """
        profile = profile_at(session, customer_id=customer_id, at=at)
        if profile is None or not lines:
            return UNTAXED
        if profile.status != "taxable":
            return Assessment((_not_taxed(profile, lines),))
        return assess_at(rates_at(session, profile, at=at), lines, currency=currency)


TAX_TABLE = TaxTable()


def rates_at(session: Session, profile: TaxProfile, *, at: datetime) -> list[TaxRate]:
    """The rates of the customer's country and state that are valid at this moment, the country's first."""
    places = [profile.country, *([f"{profile.country}-{profile.state}"] if profile.state else [])]
    return list(
        session.scalars(
            select(TaxRate)
            .options(defer(TaxRate.created_at), defer(TaxRate.created_by))
            .where(
                TaxRate.jurisdiction.in_(places),
                TaxRate.valid_from <= at,
                TaxRate.valid_until.is_(None) | (TaxRate.valid_until > at),
            )
            .order_by(TaxRate.jurisdiction, TaxRate.name, TaxRate.percent.desc(), TaxRate.item, TaxRate.id)
        )
    )


def assess_at(rates: Iterable[TaxRate], lines: Sequence[TaxableLine], *, currency: str) -> Assessment:
    """The taxes on these lines at these rates, which are all valid in one place. Pure.

    Of a rate for an item and one of the same name for everything the item's own counts. Exclusive: percent of the
    line's exact amount. Inclusive: gross x rate / (1 + the sum of the line's rates), so that what is left is the price
    without tax.

    Raises:
        TooManyTaxes: more than 20 rates apply to one line.
    """
    known = list(rates)
    exponent = invoice_exponent(currency)
    exact: dict[tuple[bool, UUID], dict[UUID, Fraction]] = {}
    for line in lines:
        applied = _rates_for(known, line.item)
        if len(applied) > MAX_RATES:
            raise TooManyTaxes(
                f"{len(applied)} tax rates apply to {line.item or 'one line'}, and a line carries {MAX_RATES} at most. "
                "End the rates that are there twice."
            )
        base = Fraction(line.amount)
        if line.inclusive:
            base /= 1 + sum((Fraction(rate.percent) / 100 for rate in applied), Fraction(0))
        for rate in applied:
            of_rate = exact.setdefault((line.inclusive, rate.id), {})
            of_rate[line.line_id] = base * Fraction(rate.percent) / 100
    return Assessment(
        tuple(
            _tax(rate, inclusive=inclusive, exact=exact[inclusive, rate.id], exponent=exponent)
            for inclusive in (False, True)
            for rate in known
            if (inclusive, rate.id) in exact
        )
    )


def _rates_for(rates: Sequence[TaxRate], item: str | None) -> list[TaxRate]:
    own = {(rate.jurisdiction, rate.name) for rate in rates if rate.item is not None and rate.item == item}
    return [
        rate
        for rate in rates
        if (rate.item is not None and rate.item == item)
        or (rate.item is None and (rate.jurisdiction, rate.name) not in own)
    ]


def _tax(rate: TaxRate, *, inclusive: bool, exact: Mapping[UUID, Fraction], exponent: int) -> Tax:
    amount = rounded(sum(exact.values(), Fraction(0)), exponent)
    weights = [EXACT.divide(Decimal(part.numerator), Decimal(part.denominator)) for part in exact.values()]
    shares = split_cents(amount, weights, exponent)
    return Tax(
        treatment="rate",
        tax_rate_id=rate.id,
        jurisdiction=rate.jurisdiction,
        name=rate.name,
        percent=rate.percent,
        inclusive=inclusive,
        amount=amount,
        shares=dict(zip(exact, shares, strict=True)),
    )


def rounded(exact: Fraction, exponent: int) -> Decimal:
    """The nearest amount with `exponent` decimals; a tie goes to the even neighbour."""
    return Decimal(round(exact * 10**exponent)).scaleb(-exponent)


def _not_taxed(profile: TaxProfile, lines: Sequence[TaxableLine]) -> Tax:
    treatment: Treatment = "reverse_charge" if profile.status == "reverse_charge" else "exempt"
    return Tax(
        treatment=treatment,
        tax_rate_id=None,
        jurisdiction=profile.country,
        name=NAMES[treatment],
        percent=Decimal(0),
        inclusive=False,
        amount=Decimal(0),
        shares={line.line_id: Decimal(0) for line in lines},
        legal_note=profile.legal_note,
    )


def checked(assessment: Assessment, lines: Sequence[TaxableLine], *, currency: str) -> Assessment:
    """The assessment, if it can stand on an invoice: whoever the engine is, its sums are ours to answer for.

    Raises:
        BadAssessment: an amount is no whole minor unit, shares do not add up, or are of lines that are not there.
    """
    unit = Decimal(1).scaleb(-invoice_exponent(currency))
    inclusive = {line.line_id: line.inclusive for line in lines}
    for tax in assessment.taxes:
        if any(amount % unit for amount in (tax.amount, *tax.shares.values())):
            raise BadAssessment(f"{tax.title} comes to {tax.amount}, which is finer than {currency} goes.")
        if sum(tax.shares.values(), Decimal(0)) != tax.amount:
            raise BadAssessment(f"The lines' shares of {tax.title} do not add up to {tax.amount}.")
        strange = [
            line_id
            for line_id in tax.shares
            if line_id not in inclusive or (tax.treatment == "rate" and inclusive[line_id] is not tax.inclusive)
        ]
        if strange:
            raise BadAssessment(f"{tax.title} has a share of {strange[0]}, which is no such line of the invoice.")
    return assessment

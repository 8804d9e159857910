"""Settling: what a draft's exact total becomes - nothing, carried forward, or an invoice with an amount due."""

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.orm import Session

from invoicing.provider import Provider
from invoicing.tables import Invoice, Line
from ledger import accounts
from ledger.balances import balances
from ledger.money import invoice_exponent, round_half_even


@dataclass(frozen=True, slots=True)
class Settlement:
    """How one draft's exact total becomes an amount due. All in major units."""

    exact: Decimal
    rounded: Decimal
    credits: dict[str, Decimal]
    outcome: str
    """final (something is due), paid (credits cover all), carried_forward, or empty."""

    @property
    def applied(self) -> Decimal:
        return sum(self.credits.values(), Decimal(0))

    @property
    def due(self) -> Decimal:
        return self.rounded - self.applied


def settle(session: Session, invoice: Invoice, lines: list[Line], *, provider: Provider) -> Settlement:
    """What finalizing this draft now would do. Writes nothing.

    Decided before credits: exactly nothing on it ends it empty; negative or below the provider's minimum carries it
    forward. Credits are used promotional first, prepaid last; if what they leave is positive but below the minimum,
    the whole invoice is carried and the credits stay.
    """
    exact = sum((line.amount for line in lines), Decimal(0))
    rounded = round_half_even(exact, invoice_exponent(invoice.currency))
    minimum = provider.of(session, customer_id=invoice.customer_id).minimum(invoice.currency)
    if exact == 0:
        return Settlement(exact, Decimal(0), {}, "empty")
    if rounded < minimum:
        return Settlement(exact, rounded, {}, "carried_forward")
    held = balances(session, customer_id=invoice.customer_id)
    used: dict[str, Decimal] = {}
    left = rounded
    for account in accounts.CREDITS:
        take = min(left, _whole_units(held.get(account, Decimal(0)), invoice.currency))
        if take > 0:
            used[account] = take
            left -= take
    if 0 < left < minimum:
        return Settlement(exact, rounded, {}, "carried_forward")
    return Settlement(exact, rounded, used, "final" if left > 0 else "paid")


def _whole_units(amount: Decimal, currency: str) -> Decimal:
    """What of a credit can be applied: whole minor units, never more than there is."""
    unit = Decimal(1).scaleb(-invoice_exponent(currency))
    return max(Decimal(0), (amount // unit) * unit)

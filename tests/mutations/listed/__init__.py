"""The guards, room by room."""

from tests.mutations.guard import Guard
from tests.mutations.listed import credit, exchanges, gateway, invoicing, ledger, pages, plans, prices, rating, tax

GUARDS: tuple[Guard, ...] = (
    *ledger.GUARDS,
    *invoicing.GUARDS,
    *prices.GUARDS,
    *rating.GUARDS,
    *credit.GUARDS,
    *plans.GUARDS,
    *tax.GUARDS,
    *gateway.GUARDS,
    *exchanges.GUARDS,
    *pages.GUARDS,
)

"""The guards, room by room."""

from tests.mutations.guard import Guard
from tests.mutations.listed import gateway, invoicing, ledger, pages

GUARDS: tuple[Guard, ...] = (*ledger.GUARDS, *invoicing.GUARDS, *gateway.GUARDS, *pages.GUARDS)

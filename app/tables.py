"""All tables of all rooms, joined for migrations and the drift check."""

import importlib

from ledger.orm import Base

for _room in (
    "ledger.tables",
    "ledger.seal_tables",
    "invoicing.movements.tables",
    "invoicing.rating.tables",
    "invoicing.tables",
    "invoicing.tax.tables",
    "invoicing.manual.tables",
    "invoicing.prices.tables",
    "invoicing.plans.tables",
    "invoicing.early_bills",
    "stripe_gateway.tables",
    "stripe_gateway.outage_tables",
    "stripe_gateway.reconciliation.tables",
    "app.accounts.tables",
    "app.panel.tables",
):
    importlib.import_module(_room)

METADATA = Base.metadata

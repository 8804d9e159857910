"""The staff's pages, complete: importing a module of pages adds its routes to the blueprint."""

from support_ui import (
    adjustments,
    bank,
    collection,
    customers,
    disputes,
    drafts,
    entries,
    finalizations,
    home,
    inbox,
    invoices,
    journal,
    movements,
    payouts,
    statements,
    tasks,
    time_machine,
)
from support_ui.site import bp

__all__ = [
    "adjustments",
    "bank",
    "bp",
    "collection",
    "customers",
    "disputes",
    "drafts",
    "entries",
    "finalizations",
    "home",
    "inbox",
    "invoices",
    "journal",
    "movements",
    "payouts",
    "statements",
    "tasks",
    "time_machine",
]

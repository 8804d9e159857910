"""The staff's pages, complete: importing a module of pages adds its routes to the blueprint."""

from support_ui import (
    adjustments,
    customers,
    drafts,
    entries,
    finalizations,
    home,
    inbox,
    invoices,
    journal,
    statements,
    time_machine,
)
from support_ui.site import bp

__all__ = [
    "adjustments",
    "bp",
    "customers",
    "drafts",
    "entries",
    "finalizations",
    "home",
    "inbox",
    "invoices",
    "journal",
    "statements",
    "time_machine",
]

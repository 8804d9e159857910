"""What the worker does when the bell rings. Arguments are plain strings: queued jobs outlive deploys.

A job that is lost, doubled or killed does no harm: what is due stands in Postgres, under a lease.
"""

from datetime import UTC, datetime
from functools import cache
from uuid import UUID

from app.composition import Billing, build
from app.config import load_config


@cache
def billing() -> Billing:
    """The joined system of this worker process."""
    return build(load_config())


def handle_event(event_id: str) -> None:
    """Handle one stored webhook event, if it is still due."""
    billing().provider.handle_event(event_id=event_id, now=datetime.now(UTC))


def sync_invoice(customer_id: str, invoice_id: str) -> None:
    """Take one final invoice to Stripe, if it is still due."""
    billing().provider.sync_one(customer_id=UUID(customer_id), invoice_id=UUID(invoice_id), now=datetime.now(UTC))


def carry_out(customer_id: str, subject_id: str) -> None:
    """Ask Stripe for what somebody began, such as a refund, if it is still due. A person may be waiting for it."""
    billing().provider.operate_one(customer_id=UUID(customer_id), subject_id=UUID(subject_id), now=datetime.now(UTC))


def sync_invoice_now(customer_id: str, invoice_id: str) -> None:
    """As `sync_invoice`, for a person who waits for it: its calls go before the bulk."""
    billing().provider.sync_one(
        customer_id=UUID(customer_id), invoice_id=UUID(invoice_id), now=datetime.now(UTC), for_people=True
    )

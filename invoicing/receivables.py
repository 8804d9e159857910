"""When invoices are due, for whoever asks what is open and how long it has been."""

from sqlalchemy import Date, Subquery, case, cast, func, select

from invoicing.tables import Customer, Invoice

DAYS_UNTIL_DUE = 30
"""Days that a customer who is sent invoices has; one who is charged automatically owes at once."""


def due_dates() -> Subquery:
    """Every numbered invoice's `customer_id`, `document_id`, `number` and `due_on`, its due date in UTC."""
    final_day = cast(func.timezone("UTC", Invoice.finalized_at), Date)
    days = case((Customer.collection_method == "send_invoice", DAYS_UNTIL_DUE), else_=0)
    return (
        select(Invoice.customer_id, Invoice.id.label("document_id"), Invoice.number, (final_day + days).label("due_on"))
        .join(Customer, Customer.customer_id == Invoice.customer_id)
        .where(Invoice.number.is_not(None))
        .subquery("due_dates")
    )

"""An invoice's state in the customer's words."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from app.panel import format as formats
from invoicing.tables import Invoice, PaymentFailure, PaymentUnderWay


@dataclass(frozen=True, slots=True)
class Status:
    """`word` for a badge of this `tone` (ok, warn, bad, info, or none), `sentence` to explain it."""

    word: str
    tone: str
    sentence: str


def status_of(
    invoice: Invoice,
    failures: Sequence[PaymentFailure],
    *,
    collection_method: str,
    time_zone: str,
    credited: Decimal = Decimal(0),
    by_transfer: bool = False,
    under_way: Sequence[PaymentUnderWay] = (),
    is_taken_back: bool = False,
) -> Status:
    """What to tell the customer about this invoice.

    `failures` are its failed payments, oldest first; `credited` is what credit notes took back of it, in major units;
    `by_transfer` is for customers who transfer the money to our bank account; `under_way` are debits that the
    customer's bank has not answered yet; `is_taken_back` is whether the bank took a payment of it back for good.
    """
    if invoice.state == "draft":
        # Whether a person is looking at it is our affair, so a held draft reads like any other.
        return Status("Being prepared", "info", "This invoice is being prepared. Until it is sent it can still change.")
    if under_way and invoice.state in ("final", "uncollectible"):
        since = formats.day(formats.first_day(under_way[0].began_at, time_zone))
        amount = formats.money(sum((debit.amount for debit in under_way), Decimal(0)), invoice.currency)
        sentence = (
            f"Your bank was asked for {amount} on {since} and answers within some days. You need not do anything."
        )
        return Status("Payment under way", "info", sentence)
    if invoice.state == "final":
        if by_transfer:
            return Status("Due", "warn", "Please transfer the amount to our bank account.")
        return _status_of_due(failures, collection_method=collection_method, time_zone=time_zone)
    if invoice.state == "paid":
        if credited and credited == invoice.total:
            return Status("Credited", "", "This invoice was credited in full. You owe nothing on it.")
        if invoice.amount_due == 0:
            return Status("Paid by credits", "ok", "Your credits covered this invoice in full.")
        paid_on = f" on {formats.day(formats.first_day(invoice.paid_at, time_zone))}" if invoice.paid_at else ""
        if is_taken_back:
            return Status("Taken back", "warn", f"Paid{paid_on}; your bank took the payment back since.")
        if credited:
            part = formats.money(credited, invoice.currency)
            return Status("Paid", "ok", f"Paid{paid_on}; {part} of it was credited. Thank you.")
        return Status("Paid", "ok", f"Paid in full{paid_on}. Thank you.")
    if invoice.state == "carried_forward":
        return _status_of_carried(invoice)
    if invoice.state == "void":
        return Status("Cancelled", "", "This invoice was cancelled. You owe nothing on it.")
    if invoice.state == "uncollectible":
        return Status("Unpaid", "bad", "This invoice was not paid in time. Please pay it, or write to support.")
    return Status("Nothing to pay", "", "Nothing was charged in this period, so there is no invoice to pay.")


def _status_of_due(failures: Sequence[PaymentFailure], *, collection_method: str, time_zone: str) -> Status:
    if failures:
        last = failures[-1]
        when = formats.day(formats.first_day(last.failed_at, time_zone))
        why = f": {last.message.rstrip('.')}" if last.message else ""
        again = (
            f" The next attempt is on {formats.day(formats.first_day(last.next_attempt_at, time_zone))}."
            if last.next_attempt_at
            else " There will be no further attempt by itself."
        )
        cure = " You can pay now, or change your payment method."
        return Status("Payment failed", "bad", f"The payment on {when} failed{why}.{again}{cure}")
    if collection_method == "automatic":
        return Status("Due", "warn", "Your payment method will be charged for this invoice shortly.")
    return Status("Due", "warn", "Please pay this invoice.")


def _status_of_carried(invoice: Invoice) -> Status:
    if invoice.exact_total is not None and invoice.exact_total < Decimal(0):
        sentence = "This invoice came out in your favour. The amount was taken off your next invoice."
    else:
        sentence = "This was too little to collect on its own, so it was added to your next invoice."
    return Status("Carried forward", "info", sentence)

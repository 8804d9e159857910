"""Charges: what one line of an invoice, or one row of the running period, bills, and the rows that it is made of.

A charge is the entries of one item at one price, used in one period and billed in one, as the cycle close groups them.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy import ColumnElement, and_, or_

from invoicing.prices.models import Segment
from ledger import accounts
from ledger.books import NAMESPACE
from ledger.tables import UNBILLED_TOTALS, Entry

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge by its key, with its exact amount and quantity. `period_start` is that of the period that bills it."""

    customer_id: UUID
    currency: str
    period_start: datetime
    usage_period_start: datetime
    contra_account: str
    item: str | None
    price_id: UUID | None
    amount: Decimal
    quantity: Decimal = ZERO

    @property
    def row_id(self) -> UUID:
        """A name for a row of a running period, which has no id of its own."""
        key = (self.customer_id, self.period_start, self.usage_period_start, self.contra_account, self.item)
        return uuid5(NAMESPACE, "\x1f".join(map(str, ("row", *key, self.price_id))))

    def totals(self) -> ColumnElement[bool]:
        """Its rows of the running totals."""
        view = UNBILLED_TOTALS.c
        return and_(
            view.customer_id == self.customer_id,
            view.period_start == self.period_start,
            view.document_id.is_(None),
            view.contra_account == self.contra_account,
            view.item.is_not_distinct_from(self.item),
            view.price_id.is_not_distinct_from(self.price_id),
            view.usage_period_start == self.usage_period_start,
        )

    def entries(self) -> ColumnElement[bool]:
        """Its entries in the journal."""
        debited = (Entry.debit_account == accounts.UNBILLED) & (Entry.credit_account == self.contra_account)
        credited = (Entry.credit_account == accounts.UNBILLED) & (Entry.debit_account == self.contra_account)
        return and_(
            Entry.customer_id == self.customer_id,
            Entry.period_start == self.period_start,
            Entry.document_id.is_(None),
            Entry.item.is_not_distinct_from(self.item),
            Entry.price_id.is_not_distinct_from(self.price_id),
            Entry.usage_period_start == self.usage_period_start,
            or_(debited, credited),
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an amount, exact: where they are given, `quantity` x `unit_amount` + `flat_amount` is `amount`."""

    words: str
    amount: Decimal
    quantity: Decimal | None = None
    unit_amount: Decimal | None = None
    flat_amount: Decimal = ZERO


def step_of(segment: Segment) -> Step:
    """A part of a price's amount as a step."""
    return Step(segment.words, segment.amount, segment.quantity, segment.unit_amount, segment.flat_amount)


def signed(entry: Entry) -> Decimal:
    """The entry's amount as it moved what is unbilled."""
    return entry.amount if entry.debit_account == accounts.UNBILLED else -entry.amount

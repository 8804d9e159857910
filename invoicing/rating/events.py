"""An event of usage that is acceptable, and the entries that it becomes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from invoicing.errors import InvoicingError
from ledger import accounts
from ledger.entries import AMOUNT_DECIMALS, AMOUNT_LIMIT, QUANTITY_DECIMALS, NewEntry, entry_id
from ledger.posting import EntryConflict

ZERO = Decimal(0)

USAGE_LEG = "usage"
"""The leg that every event has, whatever else it causes: an event is known if this entry is."""


INCLUDED_LEG = "included"
"""The leg by which a plan gives back what it includes."""


class UsageRefused(InvoicingError):
    """Some usage cannot be posted; nothing was written. `problems` names each bad row: row, field, code, sentence.

    If all that is wrong is that events were posted before with other content, the code is `entry_conflict`.
    """

    code = "usage_refused"

    def __init__(self, problems: "list[RowProblem]") -> None:
        self.problems = problems
        if all(problem.code == EntryConflict.code for problem in problems):
            self.code = EntryConflict.code
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"Row {first.row}, {first.field}: {first.message}{more}")


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Why one row is refused: its number as the caller counts, the field, a stable code, a sentence with the cure."""

    row: int
    field: str
    code: str
    message: str


@dataclass(slots=True)
class UsageEvent:
    """One acceptable event of a known customer.

    `amount` is signed, in major units: the source's own, or the quantity at a flat price, which `price_id` names; None
    if it depends on what else was used, and is found under the lock of the books. `digest` is over what was sent.
    """

    row: int
    customer_id: UUID
    currency: str
    item: str
    quantity: Decimal | None
    amount: Decimal | None
    price_id: UUID | None
    effective_at: datetime
    labels: Mapping[str, str]
    transaction_id: UUID
    id: UUID
    digest: bytes
    actor: str

    @property
    def is_rated_by_source(self) -> bool:
        """Whether the amount is the source's own: no price of ours, no tier and no discount changes it."""
        return self.amount is not None and self.price_id is None

    def entries(self, amount: Decimal, price_id: UUID | None) -> list[NewEntry]:
        """The usage itself at this amount: one entry, or two where quantity and amount differ in sign.

        Then the quantity stands at an amount of 0 and the amount without a quantity, each its own way round: so the
        sums of both stay true.
        """
        quantity = self.quantity
        if quantity and amount and (quantity < 0) != (amount < 0):
            return [
                self._entry("quantity", ZERO, quantity, price_id, backwards=quantity < 0),
                self._entry(USAGE_LEG, amount, None, price_id, backwards=amount < 0),
            ]
        backwards = amount < 0 if amount else quantity is not None and quantity < 0
        return [self._entry(USAGE_LEG, amount, quantity, price_id, backwards=backwards)]

    def consequence(self, leg: str, amount: Decimal, *, item: str, price_id: UUID) -> NewEntry:
        """What the event changes beside its own charge: an allowance or a discount, signed; more usage if positive."""
        return self._entry(leg, amount, None, price_id, backwards=amount < 0, item=item)

    def given_back(self, amount: Decimal, *, item: str, plan_version_id: UUID) -> NewEntry:
        """What a plan gives back of the charge, or takes back again if negative. Of no app and no region."""
        return self._entry(
            INCLUDED_LEG,
            amount,
            None,
            plan_version_id,
            backwards=amount > 0,
            item=item,
            kind="plan",
            contra=accounts.PLANS,
            labels={},
        )

    def _entry(
        self,
        leg: str,
        signed_amount: Decimal,
        quantity: Decimal | None,
        price_id: UUID | None,
        *,
        backwards: bool,
        item: str | None = None,
        kind: str = "usage",
        contra: str = accounts.USAGE,
        labels: Mapping[str, str] | None = None,
    ) -> NewEntry:
        debit, credit = (contra, accounts.UNBILLED) if backwards else (accounts.UNBILLED, contra)
        return NewEntry(
            customer_id=self.customer_id,
            id=self.id if leg == USAGE_LEG else entry_id(self.transaction_id, leg),
            transaction_id=self.transaction_id,
            debit_account=debit,
            credit_account=credit,
            amount=trimmed(signed_amount.copy_abs(), AMOUNT_DECIMALS),
            effective_at=self.effective_at,
            kind=kind,
            actor=self.actor,
            digest=self.digest,
            item=self.item if item is None else item,
            price_id=price_id,
            quantity=None if quantity is None else trimmed(quantity.copy_abs(), QUANTITY_DECIMALS),
            labels=self.labels if labels is None else labels,
        )


def too_large(event: UsageEvent, amount: Decimal) -> RowProblem:
    """The refusal of an event that costs more than an entry can hold."""
    message = f"At its price this costs {amount:.3E} {event.currency}: more than an entry can hold."
    return RowProblem(event.row, "quantity", "too_large", message)


def fits(amount: Decimal) -> bool:
    """Whether an entry can hold this amount, either way round."""
    return amount.copy_abs() < AMOUNT_LIMIT


def conflicting(rows: Iterable[int]) -> list[RowProblem]:
    """The refusal of rows whose events were posted before with other content."""
    message = (
        "An event with this id was posted before with other content. Send it unchanged, or send the correction as a "
        "new event with its own id."
    )
    return [RowProblem(row, "id", EntryConflict.code, message) for row in sorted(set(rows))]


def trimmed(value: Decimal, decimals: int) -> Decimal:
    """The same number without those trailing zeros that reach beyond `decimals`."""
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or -exponent <= decimals:
        return value
    if not value:
        return ZERO
    kept = len(digits)
    while digits[kept - 1] == 0 and -exponent > decimals:
        kept, exponent = kept - 1, exponent + 1
    return Decimal((sign, digits[:kept], exponent))

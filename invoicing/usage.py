"""Usage: what a customer consumed becomes entries, rated at the price that was valid when it was consumed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Session

from invoicing.customers import CustomerView, customer_id_for, customers_by_id
from invoicing.errors import InvoicingError
from invoicing.prices import ItemDetails, NoPrice, PriceBook, ensure_items, load_prices
from ledger import accounts
from ledger.books import lock_books
from ledger.entries import (
    AMOUNT_DECIMALS,
    AMOUNT_LIMIT,
    QUANTITY_DECIMALS,
    QUANTITY_LIMIT,
    NewEntry,
    digest,
    entry_id,
    instant_problem,
    label_problems,
    number_problem,
    transaction_id,
)
from ledger.money import EXACT
from ledger.posting import EntryConflict, post

MAX_RECORDS = 5_000
"""Records per call: a batch locks its customers' books until it commits. Each record makes at most two entries."""

MAX_SKEW = timedelta(minutes=5)
"""How far the platform's clocks may run ahead of ours."""

MAX_EVENT_ID = 300  # characters
MAX_SOURCE = 200  # characters
MAX_CUSTOMER = 200  # characters

DEFAULT_SOURCE = "platform"


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


class TooManyRecords(InvoicingError):
    """More usage than one batch takes. Send it in several batches."""

    code = "batch_too_large"


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Why one row is refused: its number as the caller counts, the field, a stable code, a sentence with the cure."""

    row: int
    field: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """One event of a source.

    `customer` is the platform's id, or ours as text; where both would fit, the platform's counts. `amount`, in major
    units of the customer's currency, is given only if the source rated the event itself; then `quantity` may be None,
    and `currency` may say which currency the source meant. Both may be negative: something is taken back.
    """

    row: int
    event_id: str
    customer: str
    item: str
    quantity: Decimal | None
    effective_at: datetime
    labels: Mapping[str, str] = field(default_factory=dict)
    amount: Decimal | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class UsagePosted:
    """How many records are new in the journal, and how many were there already with the same content."""

    posted: int
    replayed: int


def post_usage(
    session: Session,
    records: Sequence[UsageRecord],
    *,
    source: str,
    actor: str,
    now: datetime,
    unreadable: Sequence[RowProblem] = (),
) -> UsagePosted:
    """Post all of these records, or none. The caller commits; the books stay locked until then.

    An event is known by (source, customer, event id) for ever: the same event again changes nothing, with the same
    content. Without an amount of its own, a record costs quantity times the price that is valid at `effective_at`, to
    the last digit. An event whose quantity and amount differ in sign (a refund for hours that were used) becomes two
    entries of one transaction, the quantity at an amount of 0 and the amount without a quantity, each its own way
    round: so the sums of both stay true. `unreadable` is what is wrong with rows of the same batch that did not even
    become records: if there are any, the batch is refused, naming them together with the rest.

    Raises:
        UsageRefused: some records are not acceptable, or conflict with what was posted before; all are named.
        TooManyRecords: more than MAX_RECORDS.
    """
    if len(records) > MAX_RECORDS:
        raise TooManyRecords(f"{len(records)} rows in one batch; at most {MAX_RECORDS}. Send several batches.")
    customers = _find_customers(session, records)
    prices = load_prices(
        session,
        items=(record.item for record in records if record.amount is None and is_printable(record.item)),
        currencies=(customer.currency for customer in customers.values()),
    )
    batch = UsageBatch(source=source, actor=actor, now=now)
    for record in records:
        batch.add(record, customers.get(record.customer), prices)
    problems = [*unreadable, *batch.problems]
    if problems:
        raise UsageRefused(sorted(problems + _conflicts(session, batch), key=lambda problem: problem.row))
    ensure_items(session, batch.uncatalogued, now=now)
    try:
        return _post(session, batch)
    except EntryConflict as conflict:
        raise UsageRefused(batch.rows_of(conflict)) from conflict


class UsageBatch:
    """The entries that a batch makes, and what is wrong with its records."""

    def __init__(self, *, source: str, actor: str, now: datetime) -> None:
        self.now = now
        self.problems: list[RowProblem] = []
        self.uncatalogued: list[ItemDetails] = []
        self.whole: list[tuple[int, NewEntry]] = []
        self.split: list[tuple[int, NewEntry]] = []
        self.posting: list[tuple[int, NewEntry]] = []
        self._source = source
        self._actor = actor
        self._customer_of: dict[str, UUID] = {}

    def add(self, record: UsageRecord, customer: CustomerView | None, prices: PriceBook) -> None:
        problems = _problems(record, now=self.now)
        if customer is None:
            problems.append(
                RowProblem(
                    record.row,
                    "customer",
                    "unknown_customer",
                    f"There is no customer {record.customer[:MAX_CUSTOMER]!r}. Create the customer first.",
                )
            )
        elif record.currency is not None and record.currency != customer.currency:
            problems.append(
                RowProblem(
                    record.row,
                    "currency",
                    "currency_mismatch",
                    f"Customer {record.customer!r} is billed in {customer.currency}, not {record.currency[:20]!r}: a "
                    "customer has one currency for life. Create another customer for it.",
                )
            )
        if not problems and customer is not None:
            problems = self._rate(record, customer, prices)
        self.problems += problems

    def _rate(self, record: UsageRecord, customer: CustomerView, prices: PriceBook) -> list[RowProblem]:
        known = self._customer_of.setdefault(record.event_id, customer.customer_id)
        if known != customer.customer_id:
            message = "Another row of this batch has the same id and another customer. Every event has its own id."
            return [RowProblem(record.row, "id", "entry_conflict", message)]
        amount, price = record.amount, None
        if amount is None:
            assert record.quantity is not None  # noqa: S101 - a record without both was refused before
            try:
                found = prices.price_at(item=record.item, currency=customer.currency, at=record.effective_at)
            except NoPrice as refusal:
                return [RowProblem(record.row, "item", refusal.code, str(refusal))]
            amount, price = EXACT.multiply(record.quantity, found.unit_amount), found.id
            if amount.copy_abs() >= AMOUNT_LIMIT:
                message = f"At its price this costs {amount:.3E} {customer.currency}: more than an entry can hold."
                return [RowProblem(record.row, "quantity", "too_large", message)]
        else:
            self.uncatalogued.append(ItemDetails(record.item, record.item))
        self._enter(record, customer.customer_id, amount, price)
        return []

    def _enter(self, record: UsageRecord, customer_id: UUID, amount: Decimal, price_id: UUID | None) -> None:
        transaction = transaction_id(self._source, record.event_id)
        content = _digest(record)

        def entry(leg: str, signed_amount: Decimal, quantity: Decimal | None, *, backwards: bool) -> NewEntry:
            debit, credit = accounts.UNBILLED, accounts.USAGE
            if backwards:
                debit, credit = credit, debit
            return NewEntry(
                customer_id=customer_id,
                id=entry_id(transaction, leg),
                transaction_id=transaction,
                debit_account=debit,
                credit_account=credit,
                amount=_trimmed(signed_amount.copy_abs(), AMOUNT_DECIMALS),
                effective_at=record.effective_at,
                kind="usage",
                actor=self._actor,
                digest=content,
                item=record.item,
                price_id=price_id,
                quantity=None if quantity is None else _trimmed(quantity.copy_abs(), QUANTITY_DECIMALS),
                labels=record.labels,
            )

        quantity = record.quantity
        if quantity and amount and (quantity < 0) != (amount < 0):
            self.split.append((record.row, entry("quantity", Decimal(0), quantity, backwards=quantity < 0)))
            self.split.append((record.row, entry("usage", amount, None, backwards=amount < 0)))
            return
        backwards = amount < 0 if amount else quantity is not None and quantity < 0
        self.whole.append((record.row, entry("usage", amount, quantity, backwards=backwards)))

    def rows_of(self, conflict: EntryConflict) -> list[RowProblem]:
        """The rows of the entries that were being posted when the ledger found the conflict."""
        rows = sorted({self.posting[found.index][0] for found in conflict.conflicts})
        message = (
            "An event with this id was posted before with other content. Send it unchanged, or send the correction as "
            "a new event with its own id."
        )
        return [RowProblem(row, "id", conflict.code, message) for row in rows]


def _post(session: Session, batch: UsageBatch) -> UsagePosted:
    if batch.split:
        # Two postings would take their locks in two rounds, and two such batches could wait for each other.
        lock_books(session, (entry.customer_id for _, entry in batch.whole + batch.split))
    posted = replayed = 0
    for part, legs in ((batch.whole, 1), (batch.split, 2)):
        if part:
            batch.posting = part
            done = post(session, [entry for _, entry in part], now=batch.now)
            posted += done.posted // legs
            replayed += done.replayed // legs
    return UsagePosted(posted, replayed)


def _conflicts(session: Session, batch: UsageBatch) -> list[RowProblem]:
    """The good rows of a refused batch that would conflict as well, so that one answer names all bad rows."""
    savepoint = session.begin_nested()
    try:
        _post(session, batch)
    except EntryConflict as conflict:
        return batch.rows_of(conflict)
    finally:
        savepoint.rollback()
    return []


def _find_customers(session: Session, records: Iterable[UsageRecord]) -> dict[str, CustomerView]:
    candidates: dict[str, list[UUID]] = {}
    for customer in {record.customer for record in records}:
        if is_printable(customer) and len(customer) <= MAX_CUSTOMER:
            candidates[customer] = [customer_id_for(customer)]
            try:
                candidates[customer].append(UUID(customer))
            except ValueError:
                continue
    known = customers_by_id(session, customer_ids=[found for ids in candidates.values() for found in ids])
    return {
        customer: known[next(found for found in ids if found in known)]
        for customer, ids in candidates.items()
        if any(found in known for found in ids)
    }


def _problems(record: UsageRecord, *, now: datetime) -> list[RowProblem]:
    """Everything that is wrong with a record by itself."""
    found: list[tuple[str, str, str]] = []
    if not is_printable(record.event_id) or len(record.event_id) > MAX_EVENT_ID:
        found.append(("id", "bad_event_id", f"An event has an id of 1 to {MAX_EVENT_ID} printable characters."))
    if not is_printable(record.item) or len(record.item) > 200:
        found.append(("item", "bad_item", "An item is named by 1 to 200 printable characters."))
    for name, value, limit, decimals in (
        ("quantity", record.quantity, QUANTITY_LIMIT, QUANTITY_DECIMALS),
        ("amount", record.amount, AMOUNT_LIMIT, AMOUNT_DECIMALS),
    ):
        # copy_abs, because abs() would round to the context's 28 digits.
        problem = None if value is None else number_problem(value.copy_abs(), limit=limit, decimals=decimals)
        if problem:
            found.append((name, *problem))
    if record.quantity is None and not record.amount:
        found.append(("quantity", "missing", "A quantity is needed, unless the event has an amount other than 0."))
    time = instant_problem(record.effective_at)
    if time:
        found.append(("at", *time))
    elif record.effective_at > now + MAX_SKEW:
        when = record.effective_at.isoformat()
        found.append(
            ("at", "in_the_future", f"{when} is in the future. Check the clock, or send it once it has happened.")
        )
    found += [("labels", code, message) for code, message in label_problems(record.labels)]
    return [RowProblem(record.row, *problem) for problem in found]


def _trimmed(value: Decimal, decimals: int) -> Decimal:
    """The same number without those trailing zeros that reach beyond `decimals`."""
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or -exponent <= decimals:
        return value
    if not value:
        return Decimal(0)
    kept = len(digits)
    while digits[kept - 1] == 0 and -exponent > decimals:
        kept, exponent = kept - 1, exponent + 1
    return Decimal((sign, digits[:kept], exponent))


def _digest(record: UsageRecord) -> bytes:
    sent: dict[str, object] = {
        "item": record.item,
        "quantity": record.quantity,
        "effective_at": record.effective_at,
        "labels": record.labels,
    }
    if record.amount is not None:
        sent["amount"] = record.amount
    return digest(sent)


def is_printable(text: str) -> bool:
    """Whether a name can be stored and read: not empty, no control characters, no lone surrogates."""
    return bool(text) and text.isprintable()

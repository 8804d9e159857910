"""Usage: what a customer consumed becomes entries, rated at the price that was valid when it was consumed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Session

from invoicing.customers import CustomerView, customer_id_for, customers_by_id
from invoicing.errors import InvoicingError
from invoicing.prices.book import Tariff, load_tariff
from invoicing.prices.catalogue import ItemDetails, NoPrice, ensure_items
from invoicing.rating.events import (
    USAGE_LEG,
    RowProblem,
    UsageEvent,
    UsageRefused,
    conflicting,
    fits,
    too_large,
)
from invoicing.rating.posting import lock_uncounted, post_rated, rating_problems
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

__all__ = ["RowProblem", "UsageRecord", "UsageRefused", "post_usage"]

MAX_RECORDS = 5_000
"""Records per call: a batch locks its customers' books until it commits. Each record makes at most two entries."""

MAX_SKEW = timedelta(minutes=5)
"""How far the platform's clocks may run ahead of ours."""

MAX_EVENT_ID = 300  # characters
MAX_SOURCE = 200  # characters
MAX_CUSTOMER = 200  # characters

DEFAULT_SOURCE = "platform"


class TooManyRecords(InvoicingError):
    """More usage than one batch takes. Send it in several batches."""

    code = "batch_too_large"


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
    content. Without an amount of its own, a record costs what the price book says, to the last digit: quantity times
    price, or with tiers, allowances or a minimum what the period's total costs after it minus what it cost before it.
    An event whose quantity and amount differ in sign (a refund for hours that were used) becomes two entries of one
    transaction, see `UsageEvent.entries`. `unreadable` is what is wrong with rows of the same batch that did not even
    become records: if there are any, the batch is refused, naming them together with the rest.

    Raises:
        UsageRefused: some records are not acceptable, or conflict with what was posted before; all are named.
        TooManyRecords: more than MAX_RECORDS.
    """
    if len(records) > MAX_RECORDS:
        raise TooManyRecords(f"{len(records)} rows in one batch; at most {MAX_RECORDS}. Send several batches.")
    customers = _find_customers(session, records)
    tariff = load_tariff(
        session,
        customers={customer.customer_id: customer.currency for customer in customers.values()},
        items={record.item for record in records if is_printable(record.item)},
    )
    batch = UsageBatch(source=source, actor=actor, now=now, tariff=tariff)
    for record in records:
        batch.add(record, customers.get(record.customer))
    problems = [*unreadable, *batch.problems]
    if problems:
        raise UsageRefused(sorted(problems + _other_problems(session, batch), key=lambda problem: problem.row))
    ensure_items(session, batch.uncatalogued, now=now)
    if _is_counted(session, batch):
        posted = post_rated(session, batch.events, tariff=tariff, now=now)
        return UsagePosted(posted.posted, posted.replayed)
    try:
        return _post_as_it_is(session, batch)
    except EntryConflict as conflict:
        raise UsageRefused(batch.rows_of(conflict)) from conflict


class UsageBatch:
    """The events that a batch brings, and what is wrong with its records.

    `counted` says whether the price of one of them depends on what else was used, or another item's on it.
    """

    def __init__(self, *, source: str, actor: str, now: datetime, tariff: Tariff) -> None:
        self.now = now
        self.tariff = tariff
        self.problems: list[RowProblem] = []
        self.uncatalogued: list[ItemDetails] = []
        self.events: list[UsageEvent] = []
        self.counted = False
        self.posting: list[tuple[int, NewEntry]] = []
        self._source = source
        self._actor = actor
        self._customer_of: dict[str, UUID] = {}

    def add(self, record: UsageRecord, customer: CustomerView | None) -> None:
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
            problems = self._accept(record, customer)
        self.problems += problems

    def _accept(self, record: UsageRecord, customer: CustomerView) -> list[RowProblem]:
        customer_id = customer.customer_id
        known = self._customer_of.setdefault(record.event_id, customer_id)
        if known != customer_id:
            message = "Another row of this batch has the same id and another customer. Every event has its own id."
            return [RowProblem(record.row, "id", "entry_conflict", message)]
        transaction = transaction_id(self._source, record.event_id)
        event = UsageEvent(
            row=record.row,
            customer_id=customer_id,
            currency=customer.currency,
            item=record.item,
            quantity=record.quantity,
            amount=record.amount,
            price_id=None,
            effective_at=record.effective_at,
            labels=record.labels,
            transaction_id=transaction,
            id=entry_id(transaction, USAGE_LEG),
            digest=_digest(record),
            actor=self._actor,
        )
        if record.amount is not None:
            self.uncatalogued.append(ItemDetails(record.item, record.item))
            self.counted = self.counted or bool(self.tariff.dependents(customer_id, record.item))
        elif self.tariff.may_aggregate(customer_id, record.item):
            self.counted = True
        else:
            problem = self._rate_flat(event)
            if problem:
                return [problem]
        self.events.append(event)
        return []

    def _rate_flat(self, event: UsageEvent) -> RowProblem | None:
        assert event.quantity is not None  # noqa: S101 - a record without quantity and amount was refused before
        try:
            terms = self.tariff.price_for(
                event.customer_id,
                item=event.item,
                region=event.labels.get("region"),
                effective_at=event.effective_at,
                rating_start=event.effective_at,  # asked only where a price counts a whole period, and none does
            )
        except NoPrice as refusal:
            return RowProblem(event.row, "item", refusal.code, str(refusal))
        event.amount, event.price_id = EXACT.multiply(event.quantity, terms.unit_amount), terms.id
        return None if fits(event.amount) else too_large(event, event.amount)

    def rows_of(self, conflict: EntryConflict) -> list[RowProblem]:
        """The rows of the entries that were being posted when the ledger found the conflict."""
        return conflicting(self.posting[found.index][0] for found in conflict.conflicts)


def _is_counted(session: Session, batch: UsageBatch) -> bool:
    """Whether a charge may depend on another one. If not, the books are locked, and it stays so until the end."""
    return batch.counted or not lock_uncounted(session, (event.customer_id for event in batch.events))


def _post_as_it_is(session: Session, batch: UsageBatch) -> UsagePosted:
    """Post charges that depend on nothing else. The caller has locked the books: two postings, one round of locks."""
    whole: list[tuple[int, NewEntry]] = []
    split: list[tuple[int, NewEntry]] = []
    for event in batch.events:
        assert event.amount is not None  # noqa: S101 - nothing is counted, so everything was rated before
        entries = event.entries(event.amount, event.price_id)
        (whole if len(entries) == 1 else split).extend((event.row, entry) for entry in entries)
    posted = replayed = 0
    for part, legs in ((whole, 1), (split, 2)):
        if part:
            batch.posting = part
            done = post(session, [entry for _, entry in part], now=batch.now)
            posted += done.posted // legs
            replayed += done.replayed // legs
    return UsagePosted(posted, replayed)


def _other_problems(session: Session, batch: UsageBatch) -> list[RowProblem]:
    """What would keep the good rows of a refused batch from being posted, so that one answer names all bad rows."""
    if not batch.events:
        return []
    savepoint = session.begin_nested()
    try:
        if _is_counted(session, batch):
            return rating_problems(session, batch.events, tariff=batch.tariff)
        _post_as_it_is(session, batch)
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

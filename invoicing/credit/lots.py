"""Lots of credit: what of each grant is left, in which order lots pay for an invoice, and each use of one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ARRAY, Boolean, Column, Numeric, SmallInteger, Table, Text, Uuid, select
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import Session

from invoicing.tables import CreditUse, Invoice
from ledger import accounts
from ledger.balances import balances
from ledger.entries import entry_id
from ledger.money import invoice_exponent, plain
from ledger.orm import Base
from ledger.tables import Entry

CREDIT_LOTS = Table(
    "credit_lots",
    Base.metadata,
    Column("customer_id", Uuid),
    Column("id", Uuid),
    Column("account", Text),
    Column("amount", Numeric),
    Column("currency", Text),
    Column("priority", SmallInteger),
    Column("expires_at", TIMESTAMP(timezone=True)),
    Column("items", ARRAY(Text)),
    Column("invoice_id", Uuid),
    Column("created_at", TIMESTAMP(timezone=True)),
    Column("remaining", Numeric),
    Column("is_paid", Boolean),
    Column("is_disputed", Boolean),
    info={"is_view": True},
)
"""The view `credit_lots`: each lot, what is left of it, whether it was given or its top-up is paid, or disputed."""

NAMES = {
    accounts.CREDITS_PROMOTIONAL: "Promotional credit",
    accounts.CREDITS_GOODWILL: "Goodwill credit",
    accounts.CREDITS_PREPAID: "Prepaid credit",
}
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Lot:
    """A grant with what is left of it, in major units; without `id`: what its account holds beyond all grants."""

    id: UUID | None
    account: str
    amount: Decimal
    remaining: Decimal
    created_at: datetime | None = None
    priority: int = 0
    expires_at: datetime | None = None
    """It pays for periods that end by then (inclusive); None: for ever."""
    items: frozenset[str] | None = None
    """The items that it pays for; None: everything."""
    is_paid: bool = True
    """False while the top-up that sells it is not paid: it cannot be used yet."""
    is_disputed: bool = False
    """True while the bank may take the payment of its top-up away: it cannot be used meanwhile."""

    @property
    def name(self) -> str:
        """Its kind in words, such as "Prepaid credit"."""
        return NAMES[self.account]

    @property
    def is_usable(self) -> bool:
        """Whether it was given, or its money is here and nobody disputes it."""
        return self.is_paid and not self.is_disputed

    def pays_for(self, period_end: datetime) -> bool:
        """Whether it may be used on the invoice of a period that ends then."""
        return self.is_usable and (self.expires_at is None or self.expires_at >= period_end)


@dataclass(frozen=True, slots=True)
class Allotment:
    """What one lot pays of an invoice, in major units; without `grant_id` it is not of a lot."""

    account: str
    grant_id: UUID | None
    amount: Decimal
    title: str | None = None
    """The lot as people tell it from others; its entry says so."""

    @property
    def leg(self) -> str:
        """The name of its entry in the transaction that makes the invoice final."""
        return self.account if self.grant_id is None else f"credit:{self.grant_id}"


def lot_name(account: str, amount: Decimal, currency: str, *, granted_at: datetime, until: datetime | None) -> str:
    """A lot as people tell it from others, such as "Goodwill credit of 12 USD from 2025-06-01"."""
    expiry = f", until {until.astimezone(UTC):%Y-%m-%d}" if until else ""
    return f"{NAMES[account]} of {plain(amount)} {currency} from {granted_at.astimezone(UTC):%Y-%m-%d}{expiry}"


def lots_of(session: Session, *, customer_id: UUID) -> list[Lot]:
    """Everything that is left of the customer's credit, in the order in which it is used. Writes nothing.

    By priority, then what expires first, then promotional, goodwill, prepaid, then age. What stands on an account
    beyond its lots (an opening balance, a kept credit note) comes last and never expires. To act on it, hold the books.
    """
    lots = grants_left(session, customer_id=customer_id)
    held = balances(session, customer_id=customer_id)
    return [*lots, *_beyond(held, lots)]


def grants_left(session: Session, *, customer_id: UUID, also_empty: bool = False) -> list[Lot]:
    """The customer's lots in the order in which they are used; those with nothing left only with `also_empty`."""
    view = CREDIT_LOTS.c
    query = select(CREDIT_LOTS).where(view.customer_id == customer_id)
    if not also_empty:
        query = query.where(view.remaining > 0)
    lots = [
        Lot(
            id=row.id,
            account=row.account,
            amount=row.amount,
            remaining=row.remaining,
            created_at=row.created_at,
            priority=row.priority,
            expires_at=row.expires_at,
            items=None if row.items is None else frozenset(row.items),
            is_paid=row.is_paid,
            is_disputed=row.is_disputed,
        )
        for row in session.execute(query)
    ]
    return sorted(lots, key=_turn)


def _turn(lot: Lot) -> tuple[int, datetime, int, datetime, str]:
    return (
        lot.priority,
        lot.expires_at or _NEVER,
        accounts.CREDITS.index(lot.account),
        lot.created_at or _NEVER,
        str(lot.id),
    )


def _beyond(held: Mapping[str, Decimal], lots: Iterable[Lot]) -> list[Lot]:
    beyond = {account: held.get(account, Decimal(0)) for account in accounts.CREDITS}
    for lot in lots:
        beyond[lot.account] -= lot.remaining
    return [Lot(None, account, amount, amount) for account, amount in beyond.items() if amount > 0]


def held_beyond_lots(session: Session, *, customer_id: UUID, account: str) -> Decimal:
    """What a credit account holds beyond the customer's lots, in major units: nobody's lot is touched by taking it."""
    lots = lots_of(session, customer_id=customer_id)
    return sum((lot.remaining for lot in lots if lot.id is None and lot.account == account), Decimal(0))


def usable_credit(session: Session, *, customer_id: UUID) -> dict[str, Decimal]:
    """What the customer may use of each kind of credit, in major units: no top-ups that are not paid, or disputed."""
    sums: dict[str, Decimal] = {}
    for lot in lots_of(session, customer_id=customer_id):
        if lot.is_usable:
            sums[lot.account] = sums.get(lot.account, Decimal(0)) + lot.remaining
    return {account: sums[account] for account in accounts.CREDITS if sums.get(account)}


def allot(
    lots: Sequence[Lot], *, total: Decimal, by_item: Mapping[str | None, Decimal], period_end: datetime, currency: str
) -> list[Allotment]:
    """Which lot pays how much of an invoice over `total`; `lots` in the order in which they are used. Pure.

    `by_item` is the rounded amount of each item's lines with their taxes, and adds up to `total`. A restricted lot pays
    at most what its items' lines come to, less what restricted lots before it paid of them; one that may pay for
    everything counts towards other lines first, so that it takes nothing from those that cannot. All in major units;
    whole minor units are taken, and never more than is left.
    """
    unit = Decimal(1).scaleb(-invoice_exponent(currency))
    usable = [lot for lot in lots if lot.pays_for(period_end)]
    lines = {item: max(Decimal(0), amount) for item, amount in by_item.items() if item is not None}
    left = total
    taken: list[Allotment] = []
    for place, lot in enumerate(usable):
        take = min(left, (lot.remaining // unit) * unit)
        if lot.items is not None:
            take = min(take, sum((lines.get(item, Decimal(0)) for item in lot.items), Decimal(0)))
        if take <= 0:
            continue
        if lot.items is not None:
            _cover(lines, lot.items, take, later=usable[place + 1 :])
        taken.append(Allotment(lot.account, lot.id, take, _title(lot, currency)))
        left -= take
    return taken


def _title(lot: Lot, currency: str) -> str | None:
    if lot.created_at is None:
        return None
    return lot_name(lot.account, lot.amount, currency, granted_at=lot.created_at, until=lot.expires_at)


def _cover(lines: dict[str, Decimal], items: Iterable[str], amount: Decimal, *, later: Sequence[Lot]) -> None:
    """Count `amount` towards these items' lines, first towards those that the fewest later lots are restricted to."""

    def wanted(item: str) -> tuple[int, str]:
        return sum(lot.items is not None and item in lot.items for lot in later), item

    for item in sorted(items, key=wanted):
        part = min(amount, lines.get(item, Decimal(0)))
        if part > 0:
            lines[item] -= part
            amount -= part


def by_account(allotments: Iterable[Allotment]) -> dict[str, Decimal]:
    """What each kind of credit pays, in the order of the chart of accounts."""
    sums = {account: Decimal(0) for account in accounts.CREDITS}
    for allotment in allotments:
        sums[allotment.account] += allotment.amount
    return {account: amount for account, amount in sums.items() if amount}


def write_use(
    session: Session,
    *,
    customer_id: UUID,
    grant_id: UUID,
    kind: str,
    amount: Decimal,
    entry: UUID,
    at: datetime,
    actor: str,
    invoice_id: UUID | None = None,
    reason: str | None = None,
) -> None:
    """Write down what became of a part of a lot; `entry` is posted already. Postgres refuses more than is left."""
    session.add(
        CreditUse(
            customer_id=customer_id,
            id=entry,
            grant_id=grant_id,
            kind=kind,
            invoice_id=invoice_id,
            amount=amount,
            entry_id=entry,
            at=at,
            actor=actor,
            reason=reason,
        )
    )
    session.flush()


def write_applied(
    session: Session, invoice: Invoice, allotments: Iterable[Allotment], *, transaction: UUID, actor: str, now: datetime
) -> None:
    """Write down what each lot paid of an invoice; `transaction` has posted it. The caller commits."""
    for allotment in allotments:
        if allotment.grant_id is not None:
            write_use(
                session,
                customer_id=invoice.customer_id,
                grant_id=allotment.grant_id,
                kind="applied",
                amount=allotment.amount,
                entry=entry_id(transaction, allotment.leg),
                at=now,
                actor=actor,
                invoice_id=invoice.id,
            )


def give_back(
    session: Session,
    invoice: Invoice,
    taken_back: Iterable[Entry],
    *,
    transaction: UUID,
    at: datetime,
    actor: str,
    reason: str,
) -> None:
    """Give lots back what an invoice that is void now took of them; of a top-up, take the lot that it sold.

    `taken_back` are the entries that `transaction` reversed, in that order. The caller commits.
    """
    entries = list(taken_back)
    uses: dict[UUID, list[CreditUse]] = {}
    for use in session.scalars(
        select(CreditUse).where(
            CreditUse.customer_id == invoice.customer_id, CreditUse.entry_id.in_([entry.id for entry in entries])
        )
    ):
        uses.setdefault(use.entry_id, []).append(use)
    for entry in entries:
        reversal = entry_id(transaction, f"reversal:{entry.id}")
        for place, use in enumerate(uses.get(entry.id, ())):
            session.add(
                CreditUse(
                    customer_id=use.customer_id,
                    # Before there were lots, one entry used several grants.
                    id=reversal if place == 0 else entry_id(reversal, str(use.grant_id)),
                    grant_id=use.grant_id,
                    kind="returned",
                    invoice_id=invoice.id,
                    amount=use.amount,
                    entry_id=reversal,
                    at=at,
                    actor=actor,
                    reason=reason,
                )
            )
            session.flush()
        if invoice.kind == "top_up" and entry.credit_account == accounts.CREDITS_PREPAID and entry.id not in uses:
            write_use(
                session,
                customer_id=invoice.customer_id,
                grant_id=invoice.id,
                kind="revoked",
                amount=entry.amount,
                entry=reversal,
                at=at,
                actor=actor,
                invoice_id=invoice.id,
                reason=reason,
            )

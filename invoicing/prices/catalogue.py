"""The price book: what one unit of an item costs, from when on, in which currency."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.errors import InvoicingError
from invoicing.tables import Item, Price
from ledger.books import NAMESPACE
from ledger.entries import instant_problem, number_problem
from ledger.money import EXACT, minor_units, plain

UNIT_AMOUNT_LIMIT = Decimal(10) ** 9  # exclusive, major units
UNIT_AMOUNT_DECIMALS = 12
MAX_ITEM_CODE = 200  # characters
MAX_ITEM_NAME = 500  # characters
MAX_ITEM_UNIT = 100  # characters


class NoPrice(InvoicingError):
    """This item has no price in the customer's currency at that time. Publish one, then send the usage again."""

    code = "no_price"


class PriceConflict(InvoicingError):
    """Another price of this item begins at the same time. Prices never change: publish one that begins later."""

    code = "price_conflict"


class SecondPersonNeeded(InvoicingError):
    """This item has prices already. Draft a change of them, and let a second person publish it."""

    code = "second_person_needed"


class PriceRefused(InvoicingError):
    """Some prices are not acceptable; `problems` names each reason: field or place, code, sentence."""

    code = "price_refused"

    def __init__(self, problems: list[tuple[str, str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{field}: {message}" for field, _, message in problems))


@dataclass(frozen=True, slots=True)
class ItemDetails:
    """What an item is called, and in which unit its quantities are counted. An empty unit is unknown."""

    code: str
    name: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class PriceView:
    """A price with its item: `unit_amount` in major units per `unit` (or package; 0 where there are tiers)."""

    id: UUID
    item: str
    item_name: str
    unit: str
    currency: str
    unit_amount: Decimal
    valid_from: datetime
    created_at: datetime
    created_by: str
    region: str | None = None
    price_list: str = "public"
    model: str = "per_unit"


BOOK_LOCK = 7_074_692_024
"""The advisory lock of the price book: shared by whoever rates, held alone by whoever publishes. In Postgres too."""


def hold_book(session: Session) -> None:
    """Let nobody else publish or rate until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(BOOK_LOCK)))


def price_id(
    *,
    item: str,
    currency: str,
    valid_from: datetime,
    price_list: str = "public",
    customer_id: UUID | None = None,
    region: str | None = None,
) -> UUID:
    """The id of a price, derived, so that publishing it twice at once still makes one."""
    name = f"price\x1f{item}\x1f{currency}\x1f{valid_from.astimezone(UTC).isoformat()}"
    if price_list != "public" or region is not None:
        # A list, a customer and a region never read alike: each has its place, and a missing one its own sign.
        name += f"\x1f{price_list}\x1f{customer_id or '-'}\x1f{'-' if region is None else '=' + region}"
    return uuid5(NAMESPACE, name)


def publish_price(
    session: Session,
    *,
    item: ItemDetails,
    currency: str,
    unit_amount: Decimal,
    valid_from: datetime,
    actor: str,
    now: datetime,
) -> tuple[Price, bool]:
    """Publish an item's first public price, and the item if that is new; the same price again changes nothing.

    `unit_amount` is in major units per unit, from 0 to below 10^9, at most 12 decimals. What comes with the first
    price, at the same `now`, is first as well; whatever comes later is a change (`price_changes`). The answer's second
    part says whether the price is new. The caller commits.

    Raises:
        PriceRefused: something about it is not acceptable; all of it is named.
        PriceConflict: the item has another price from the same instant on.
        SecondPersonNeeded: the item has prices in this currency from another time.
        UnknownCurrency: we do not bill in it.
    """
    minor_units(currency)
    problems = _problems(item, unit_amount, valid_from)
    if problems:
        raise PriceRefused(problems)
    key = price_id(item=item.code, currency=currency, valid_from=valid_from)
    if session.get(Price, key) is None:
        # After the lock, so that of two who publish at once the second one sees what the first one did.
        hold_book(session)
        earlier = select(Price.id).where(Price.item == item.code, Price.currency == currency, Price.created_at != now)
        if session.scalar(earlier.where(Price.id != key).limit(1)) is not None:
            raise SecondPersonNeeded(
                f"{item.code} has prices in {currency}: what changes them is published by a second person. Draft it: "
                f"billing prices set {item.code} ..., or billing prices load FILE; then billing prices publish."
            )
    ensure_items(session, [item], now=now)
    created = session.execute(
        insert(Price)
        .values(
            id=key,
            item=item.code,
            currency=currency,
            unit_amount=unit_amount.normalize(EXACT),
            valid_from=valid_from,
            created_at=now,
            created_by=actor,
        )
        .on_conflict_do_nothing()
        .returning(Price.id)
    ).scalar()
    price = session.get_one(Price, key)
    if price.unit_amount != unit_amount or price.model != "per_unit":
        raise PriceConflict(
            f"{item.code} costs {plain(price.unit_amount)} {currency} from {valid_from.isoformat()} on, not "
            f"{plain(unit_amount)}. A published price never changes: publish one that begins later."
        )
    return price, created is not None


def _problems(item: ItemDetails, unit_amount: Decimal, valid_from: datetime) -> list[tuple[str, str, str]]:
    found = item_problems(item)
    amount = number_problem(unit_amount, limit=UNIT_AMOUNT_LIMIT, decimals=UNIT_AMOUNT_DECIMALS)
    if amount:
        found.append(("unit_amount", *amount))
    time = instant_problem(valid_from)
    if time:
        found.append(("valid_from", *time))
    return found


def item_problems(item: ItemDetails) -> list[tuple[str, str, str]]:
    """Everything that is wrong with an item's details."""
    found: list[tuple[str, str, str]] = []
    if not 0 < len(item.code) <= MAX_ITEM_CODE or not item.code.isprintable():
        found.append(("item", "bad_item", f"An item is named by 1 to {MAX_ITEM_CODE} printable characters."))
    if not 0 < len(item.name) <= MAX_ITEM_NAME or not item.name.isprintable():
        found.append(("name", "bad_item_name", f"An item's name has 1 to {MAX_ITEM_NAME} printable characters."))
    if len(item.unit) > MAX_ITEM_UNIT or not item.unit.isprintable():
        found.append(("unit", "bad_unit", f"A unit has at most {MAX_ITEM_UNIT} printable characters."))
    return found


def ensure_items(session: Session, items: Sequence[ItemDetails], *, now: datetime) -> None:
    """Add the items that are not in the catalogue yet. The caller commits.

    Those that are there keep their name; a unit that was unknown is filled in. In code order, so that two callers at
    once cannot deadlock.
    """
    wanted: dict[str, ItemDetails] = {}
    for item in items:
        if item.code not in wanted or (item.unit and not wanted[item.code].unit):
            wanted[item.code] = item
    rows = session.execute(select(Item.code, Item.unit).where(Item.code.in_(sorted(wanted))))
    known: dict[str, str] = {row.code: row.unit for row in rows}
    missing = [
        {"code": item.code, "name": item.name, "unit": item.unit, "created_at": now}
        for code, item in sorted(wanted.items())
        if code not in known or (item.unit and not known[code])
    ]
    if not missing:
        return
    statement = insert(Item)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[Item.code],
            set_={"unit": statement.excluded.unit},
            where=(Item.unit == "") & (statement.excluded.unit != ""),
        ),
        missing,
    )


def list_prices(session: Session, *, item: str | None = None, currency: str | None = None) -> list[PriceView]:
    """Published prices by item, currency and time; `item` (whole code) and `currency` narrow the list."""
    query = select(
        Price.id,
        Price.item,
        Item.name.label("item_name"),
        Item.unit,
        Price.currency,
        Price.unit_amount,
        Price.valid_from,
        Price.created_at,
        Price.created_by,
        Price.region,
        Price.price_list,
        Price.model,
    ).join(Item, Item.code == Price.item)
    if item is not None:
        query = query.where(Price.item == item)
    if currency is not None:
        query = query.where(Price.currency == currency)
    order = (Price.item, Price.currency, Price.price_list, Price.region.nulls_first(), Price.valid_from, Price.id)
    rows = session.execute(query.order_by(*order))
    return [PriceView(**row._mapping) for row in rows]


def get_item(session: Session, *, code: str) -> ItemDetails | None:
    """One item of the catalogue, or None if it is not there."""
    row = session.execute(select(Item.code, Item.name, Item.unit).where(Item.code == code)).one_or_none()
    return ItemDetails(*row) if row else None

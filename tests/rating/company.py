"""A random world put into real books: its prices published, its usage posted step by step, and what the books say."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.database import session_scope
from invoicing.customers import create_customer, customer_id_for
from invoicing.cycles import close_due
from invoicing.early_bills import CannotBillNow, NothingToBill, bill_now
from invoicing.prices.catalogue import ItemDetails, hold_book
from invoicing.prices.content import PriceContent
from invoicing.prices.models import PriceTerms, Tier
from invoicing.prices.publishing import write_content
from invoicing.prices.tables import CustomerPriceList, DiscountRow
from invoicing.rating.posting import recharge_included
from invoicing.settings import Settings
from invoicing.usage.intake import UsagePosted, UsageRecord, post_usage
from ledger.books import NAMESPACE
from tests.rating import rater
from tests.rating.worlds import AGREED, ITEMS, ZONES, Row, World

NOW = datetime(2025, 12, 1, tzinfo=UTC)
Sums = dict[tuple[str, datetime, str, Any], Fraction]


class RatedCompany:
    """One example's world, with names of its own, so that many fit into one database."""

    def __init__(self, engine: Engine, book: Row, *, number: int) -> None:
        self.engine, self.book, self.number = engine, book, number
        self.plans: dict[tuple[str, datetime], Decimal] = {}
        self.sent: list[Row] = []
        self._changes = 0
        self._ids: dict[UUID, Any] = {}
        with session_scope(engine) as session:
            for name, calendar in book["customers"].items():
                create_customer(
                    session, external_id=self.name(name), name=name, currency="USD", actor="test", now=NOW, **calendar
                )
            self._publish(session)

    def name(self, name: str) -> str:
        """A customer, an item or a list, under the name that it has in this example."""
        return f"{name}-{self.number}"

    def customer_id(self, name: str) -> UUID:
        return customer_id_for(self.name(name))

    def _publish(self, session: Session) -> None:
        hold_book(session)
        content = PriceContent(
            items=tuple(ItemDetails(self.name(item), item) for item in ITEMS),
            prices=tuple(self._terms(price) for price in self.book["prices"]),
            lists={self.name(AGREED): "Agreed"},
            zones=ZONES,
        )
        write_content(session, content, actor="test", now=NOW)
        who = {"reason": "Agreed", "created_at": NOW, "created_by": "test"}
        for customer, start, price_list in self.book["agreements"]:
            listed = price_list if price_list == "public" else self.name(price_list)
            session.add(
                CustomerPriceList(customer_id=self.customer_id(customer), price_list=listed, valid_from=start, **who)
            )
        for number, row in enumerate(self.book["discounts"]):
            row["id"] = f"discount {number}"
            session.add(
                DiscountRow(
                    customer_id=self.customer_id(row["customer"]),
                    id=self._id(row["id"]),
                    item=None if row["item"] is None else self.name(row["item"]),
                    percent=row["percent"],
                    valid_from=row["from"],
                    valid_until=row["until"],
                    **who,
                )
            )

    def _id(self, known: Any) -> UUID:
        derived = uuid5(NAMESPACE, f"{self.number} {known}")
        self._ids[derived] = known
        return derived

    def _terms(self, price: Row) -> PriceTerms:
        return PriceTerms(
            id=self._id(price["id"]),
            item=self.name(price["item"]),
            currency="USD",
            region=price["region"],
            price_list=self.name(AGREED) if price["list"] == AGREED else price["list"],
            model=price["model"],
            unit_amount=price["unit_amount"],
            package_size=price["package_size"],
            tiers=tuple(Tier(*tier) for tier in price["tiers"]),
            included=price["included"],
            included_item=None if price["included_item"] is None else self.name(price["included_item"]),
            included_per_unit=price["included_per_unit"],
            minimum=price["minimum"],
            maximum=price["maximum"],
            valid_from=price["from"],
            valid_until=price["until"],
            customer_id=None if price["customer"] is None else self.customer_id(price["customer"]),
            tax_inclusive=price.get("tax_inclusive", False),
        )

    def price_of(self, price_id: UUID | None) -> Row | None:
        """The price in the book that has this id here; None for what was rated by its source, and for discounts."""
        known = None if price_id is None else self._ids.get(price_id)
        return next((price for price in self.book["prices"] if price["id"] == known), None)

    def record(self, event: Row, row: int = 0) -> UsageRecord:
        labels = {name: event[name] for name in ("region", "app") if event.get(name) is not None}
        return UsageRecord(
            row=row,
            event_id=f"{self.number} {event['id']}",
            customer=self.name(event["customer"]),
            item=self.name(event["item"]),
            quantity=event["quantity"],
            amount=event["amount"],
            effective_at=event["at"],
            labels=labels,
        )

    def post(self, events: list[Row]) -> UsagePosted:
        records = [self.record(event, row) for row, event in enumerate(events)]
        with session_scope(self.engine) as session:
            posted = post_usage(session, records, source="test", actor="test", now=NOW)
        self.sent += events
        return posted

    def include(self, customer: str, at: datetime, included: Decimal) -> None:
        """Let a plan include so much in the rating period that holds `at`."""
        start = rater.period_start(at, **self.book["customers"][customer])
        self._changes += 1
        with session_scope(self.engine) as session:
            recharge_included(
                session,
                customer_id=self.customer_id(customer),
                rating_start=start,
                included_before=self.plans.get((customer, start), Decimal(0)),
                included_after=included,
                plan_version_id=self._id("plan"),
                item="plan:launch:included",
                effective_at=at,
                source="test plan",
                event_id=f"{self.number} {self._changes}",
                actor="test",
                now=NOW,
            )
        self.plans[customer, start] = included

    def close(self, ended_by: datetime) -> None:
        close_due(self.engine, as_of=ended_by + timedelta(hours=6), settings=Settings())

    def bill_early(self, customer: str, now: datetime) -> bool:
        """Bill the period that holds `now` at that moment, if there is anything to bill."""
        try:
            with session_scope(self.engine) as session:
                bill_now(
                    session,
                    customer_id=self.customer_id(customer),
                    cause="early",
                    reason="Asked for",
                    actor="test",
                    settings=Settings(),
                    now=now,
                )
        except (NothingToBill, CannotBillNow):
            return False
        return True

    def take(self, world: World, step: Row) -> None:
        """Live through one step of the world."""
        if "post" in step:
            self.post([world.events[number] for number in step["post"]])
        elif "close" in step:
            self.close(step["close"])
        elif "bill" in step:
            self.bill_early(step["bill"], step["at"])
        else:
            self.include(step["plan"], step["at"], step["included"])

    def sums(self, session: Session, *, account: str = "income:usage") -> tuple[Sums, Sums]:
        """Amounts and quantities of the books, as the rater's: by customer, period of use, item and price."""
        names = {self.customer_id(name): name for name in self.book["customers"]}
        rows = session.execute(
            text("""
                SELECT customer_id, rating_start(customer_id, usage_period_start), item, price_id, sum(amount),
                       sum(quantity)
                  FROM ledger_unbilled
                 WHERE customer_id = ANY(:customers) AND contra_account = :account AND document_id IS NULL
                 GROUP BY 1, 2, 3, 4"""),
            {"customers": list(names), "account": account},
        )
        amounts: Sums = {}
        quantities: Sums = {}
        for customer_id, start, item, price_id, amount, quantity in rows:
            key = (names[customer_id], start, item.removesuffix(f"-{self.number}"), self._ids.get(price_id))
            amounts[key], quantities[key] = Fraction(amount), Fraction(quantity)
        return _without_nothing(amounts), _without_nothing(quantities)

    def given_back(self, session: Session) -> dict[tuple[str, datetime], Fraction]:
        amounts, _ = self.sums(session, account="income:plans")
        return {(customer, start): -amount for (customer, start, _, _), amount in amounts.items()}

    def expected_back(self, amounts: Mapping[tuple[str, datetime, str, Any], Fraction]) -> dict[Any, Fraction]:
        """What plans should have given back of these amounts."""
        found = {
            scope: rater.given_back(Fraction(included), [amount for key, amount in amounts.items() if key[:2] == scope])
            for scope, included in self.plans.items()
        }
        return {scope: amount for scope, amount in found.items() if amount}

    def customers(self) -> Iterator[UUID]:
        return (self.customer_id(name) for name in self.book["customers"])


def _without_nothing(sums: Sums) -> Sums:
    return {key: amount for key, amount in sums.items() if amount}

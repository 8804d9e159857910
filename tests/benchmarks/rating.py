"""Usage that we rate, at flat and at graduated prices, beside usage that its source has rated already."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from invoicing.customers import create_customer, customer_id_for
from invoicing.prices.catalogue import ItemDetails, hold_book
from invoicing.prices.content import PriceContent
from invoicing.prices.models import PriceTerms, Tier
from invoicing.prices.publishing import write_content
from invoicing.usage.intake import UsageRecord, post_usage
from tests.benchmarks.ledger import BATCH, CUSTOMERS
from tests.benchmarks.rounds import Way
from tests.benchmarks.sizes import FULL, Sizes
from tests.benchmarks.workload import APPS, HOURS, MONTH, REGIONS

ITEMS = 4  # of each kind
UNIT_AMOUNT = Decimal("0.0000008")
TIERS = (
    Tier(Decimal(0), UNIT_AMOUNT),
    Tier(Decimal(100_000), Decimal("0.0000006")),
    Tier(Decimal(1_000_000), Decimal("0.0000005"), Decimal("0.25")),
)

UNRATED = "post_usage, rated by the source"
FLAT = "post_usage, flat prices"
GRADUATED = "post_usage, graduated prices"


class Usage:
    """Customers whose usage goes to items of three kinds; every round brings as much of each."""

    def __init__(self, engine: Engine, sizes: Sizes) -> None:
        self._engine, self._sizes = engine, sizes
        self._sent = 0
        self._batches: dict[str, list[list[UsageRecord]]] = {}
        self._names = [f"rated-{number}" for number in range(CUSTOMERS)]
        with Session(engine) as session, session.begin():
            for name in self._names:
                create_customer(session, external_id=name, name=name, currency="USD", actor="benchmark", now=MONTH)
            hold_book(session)
            terms = tuple(_terms(kind, number) for kind in (FLAT, GRADUATED) for number in range(ITEMS))
            items = tuple(ItemDetails(one.item, one.item) for one in terms)
            write_content(session, PriceContent(items=items, prices=terms), actor="benchmark", now=MONTH)

    def prepare(self, turn: int) -> int:
        """Make the records of a round beforehand, so that only rating and posting are measured."""
        for kind in (UNRATED, FLAT, GRADUATED):
            self._batches[kind] = [
                [self._record(kind, row) for row in range(BATCH)] for _ in range(self._sizes.batches)
            ]
        return 1

    def _record(self, kind: str, row: int) -> UsageRecord:
        self._sent += 1
        number = self._sent
        quantity = Decimal(number % 3600 + 1)
        return UsageRecord(
            row=row,
            event_id=f"rated-{number}",
            customer=self._names[number * 7919 % CUSTOMERS],
            item=_item(kind, number // 4 % ITEMS),
            quantity=quantity,
            effective_at=MONTH + timedelta(hours=number * 31 % HOURS),
            labels={"app": f"app-{number % APPS}", "region": REGIONS[number % 4], "machine": f"e2865{number % 97:05}"},
            amount=quantity * UNIT_AMOUNT if kind == UNRATED else None,
        )

    def post(self, kind: str) -> Callable[[int], int]:
        def run(turn: int) -> int:
            for batch in self._batches[kind]:
                with Session(self._engine) as session, session.begin():
                    done = post_usage(session, batch, source="benchmark", actor="benchmark", now=MONTH + timedelta(60))
                assert done.posted == BATCH, done
            return BATCH * self._sizes.batches

        return run


def _item(kind: str, number: int) -> str:
    return f"{kind.removeprefix('post_usage, ')} {number}"


def _terms(kind: str, number: int) -> PriceTerms:
    item = _item(kind, number)
    return PriceTerms(
        id=customer_id_for(f"price of {item}"),
        item=item,
        currency="USD",
        region=None,
        price_list="public",
        model="per_unit" if kind == FLAT else "graduated",
        unit_amount=UNIT_AMOUNT if kind == FLAT else Decimal(0),
        package_size=None,
        tiers=() if kind == FLAT else TIERS,
        included=Decimal(0),
        included_item=None,
        included_per_unit=Decimal(0),
        minimum=None,
        maximum=None,
        valid_from=MONTH - timedelta(days=400),
        valid_until=None,
    )


def ways(engine: Engine, *, sizes: Sizes = FULL) -> list[Way]:
    usage = Usage(engine, sizes)
    return [
        Way("preparing usage", "", usage.prepare),
        Way(UNRATED, "entries", usage.post(UNRATED)),
        Way(FLAT, "entries", usage.post(FLAT), beside=UNRATED),
        Way(GRADUATED, "entries", usage.post(GRADUATED), beside=UNRATED),
    ]

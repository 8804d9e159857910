"""Random lots, restrictions and invoices: no credit is made or lost, and it is used in the order that was said."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4, uuid5

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.credit.endings import expire_due, revoke_credit
from invoicing.credit.grants import grant_credit
from invoicing.credit.lots import Allotment, Lot, allot, grants_left, lots_of
from invoicing.prices.catalogue import ItemDetails, ensure_items
from invoicing.tables import CreditUse, Invoice
from ledger import accounts
from ledger.balances import balances
from tests.invoicing.conftest import Company, at, company

__all__ = ["company"]

SPACE = UUID("6f1d1c1e-8f43-4a39-9b0c-0000000000bb")
END = datetime(2025, 7, 1, tzinfo=UTC)
ITEMS = ("egress", "machine", "volume")
CENTS = st.decimals("0.01", 200, places=2, allow_nan=False, allow_infinity=False)
GROSS = st.dictionaries(
    st.sampled_from([*ITEMS, None]), st.decimals(-50, 200, places=2, allow_nan=False, allow_infinity=False), min_size=1
)


def lot(number: int, account: str, amount: Decimal, days: int | None, items: frozenset[str] | None) -> Lot:
    return Lot(
        id=uuid5(SPACE, str(number)),
        account=account,
        amount=amount,
        remaining=amount,
        created_at=END - timedelta(days=60 - number),
        expires_at=None if days is None else END + timedelta(days=days),
        items=items,
    )


LOTS = st.lists(
    st.tuples(
        st.sampled_from(accounts.CREDITS),
        CENTS,
        st.sampled_from([None, -1, 0, 30]),
        st.none() | st.frozensets(st.sampled_from(ITEMS), min_size=1),
    ),
    max_size=7,
).map(lambda rows: [lot(number, *row) for number, row in enumerate(rows)])


def pays(lots: list[Lot], gross: dict[str | None, Decimal]) -> list[Allotment]:
    total = sum(gross.values(), Decimal(0))
    return allot(lots, total=total, by_item=gross, period_end=END, currency="USD")


@settings(max_examples=300, deadline=None)
@given(LOTS, GROSS)
def test_no_lot_pays_more_than_it_has_for_more_than_it_may_or_after_its_end(
    lots: list[Lot], gross: dict[str | None, Decimal]
) -> None:
    paid = pays(lots, gross)
    by_id = {lot.id: lot for lot in lots}
    total = sum(gross.values(), Decimal(0))
    assert sum((part.amount for part in paid), Decimal(0)) <= max(total, Decimal(0))
    for part in paid:
        used = by_id[part.grant_id]
        assert 0 < part.amount <= used.remaining
        assert used.expires_at is None or used.expires_at >= END
    for item in ITEMS:
        only = [part.amount for part in paid if by_id[part.grant_id].items == frozenset({item})]
        assert sum(only, Decimal(0)) <= max(gross.get(item, Decimal(0)), Decimal(0))
    restricted = [part.amount for part in paid if by_id[part.grant_id].items is not None]
    items_total = sum((max(gross.get(item, Decimal(0)), Decimal(0)) for item in ITEMS), Decimal(0))
    assert sum(restricted, Decimal(0)) <= items_total


@settings(max_examples=300, deadline=None)
@given(LOTS, GROSS)
def test_a_later_lot_pays_only_once_the_earlier_ones_gave_all_that_they_may(
    lots: list[Lot], gross: dict[str | None, Decimal]
) -> None:
    """A lot for everything is spent before anything is left to pay; one that is not spent leaves later ones alone."""
    paid = pays(lots, gross)
    total = sum(gross.values(), Decimal(0))
    left = total - sum((part.amount for part in paid), Decimal(0))
    usable = [one for one in lots if one.pays_for(END)]
    given_by = {part.grant_id: part.amount for part in paid}
    if left > 0:
        for one in usable:
            if one.items is None:
                assert given_by.get(one.id, Decimal(0)) == one.remaining
    for place, one in enumerate(usable):
        if one.items is None and given_by.get(one.id, Decimal(0)) < one.remaining:
            assert left <= 0
            assert not any(later.id in given_by for later in usable[place + 1 :])


@settings(max_examples=100, deadline=None)
@given(st.lists(CENTS, max_size=5), CENTS)
def test_without_restrictions_credit_is_used_from_the_top_until_it_or_the_invoice_is_used_up(
    amounts: list[Decimal], total: Decimal
) -> None:
    lots = [lot(number, accounts.CREDITS_GOODWILL, amount, None, None) for number, amount in enumerate(amounts)]
    paid = pays(lots, {"machine": total})
    assert sum((part.amount for part in paid), Decimal(0)) == min(total, sum(amounts, Decimal(0)))
    assert [part.grant_id for part in paid] == [one.id for one in lots][: len(paid)]
    assert all(part.amount == one.remaining for part, one in zip(paid[:-1], lots, strict=False))


GRANTS = st.lists(
    st.tuples(
        st.sampled_from(["promotional", "goodwill"]),
        CENTS,
        st.sampled_from([None, "2025-06-15", "2025-07-01", "2025-07-20", "2025-09-01"]),
        st.sampled_from([None, None, ["egress"], ["egress", "machine"]]),
        st.sampled_from([1, 100]),
    ),
    max_size=5,
)
USED = st.lists(st.tuples(st.sampled_from(ITEMS), CENTS), min_size=1, max_size=4)


def _months(company: Company, name: str, grants: list[tuple[str, Decimal, str | None, list[str] | None, int]],
            months: list[list[tuple[str, Decimal]]]) -> None:  # fmt: skip
    customer_id = company.customer(name)
    with Session(company.engine) as session, session.begin():
        ensure_items(session, [ItemDetails(code=item, name=item) for item in ITEMS], now=at("2025-06-01"))
        for number, (kind, amount, until, items, priority) in enumerate(grants):
            grant_credit(
                session,
                customer_id=customer_id,
                grant_id=uuid5(customer_id, str(number)),
                account=f"liabilities:credits:{kind}",
                amount=amount,
                reason="Welcome",
                actor="test",
                now=at("2025-06-01"),
                expires_at=at(until) if until else None,
                items=items,
                priority=priority,
            )
    for month, used in enumerate(months, start=6):
        for number, (item, amount) in enumerate(used):
            company.use(name, f"2025-{month:02d}-03", str(amount), item=item, event=str(number))
        company.close(f"2025-{month + 1:02d}-01")
        assert expire_due(company.engine, now=at(f"2025-{month + 1:02d}-01") + timedelta(hours=13)).problems == []
        company.finalize_due(f"2025-{month + 1:02d}-04")
        assert expire_due(company.engine, now=at(f"2025-{month + 1:02d}-05")).problems == []
        _adds_up(company, customer_id)
    if grants:
        with Session(company.engine) as session, session.begin():
            left = [one for one in grants_left(session, customer_id=customer_id) if one.id]
            if left and left[0].id:
                revoke_credit(
                    session, customer_id=customer_id, grant_id=left[0].id, reason="x", actor="test",
                    now=at("2025-08-06"),
                )  # fmt: skip
        _adds_up(company, customer_id)


def _adds_up(company: Company, customer_id: UUID) -> None:
    """Every lot is its uses and what is left of it; every account is its lots; every invoice is its lots."""
    with Session(company.engine) as session:
        lots = {one.id: one for one in grants_left(session, customer_id=customer_id, also_empty=True)}
        uses = session.scalars(select(CreditUse).where(CreditUse.customer_id == customer_id)).all()
        held = balances(session, customer_id=customer_id)
        invoices = session.scalars(select(Invoice).where(Invoice.customer_id == customer_id)).all()
        assert all(one.id is not None for one in lots_of(session, customer_id=customer_id))
    for grant_id, one in lots.items():
        used = sum((use.amount for use in uses if use.grant_id == grant_id), Decimal(0))
        assert used + one.remaining == one.amount
        assert one.remaining >= 0
    for account in accounts.CREDITS:
        left = sum((one.remaining for one in lots.values() if one.account == account), Decimal(0))
        assert held.get(account, Decimal(0)) == left
    for invoice in invoices:
        applied = sum((use.amount for use in uses if use.invoice_id == invoice.id), Decimal(0))
        assert applied == (invoice.credits_applied or 0)


COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


@settings(max_examples=4, derandomize=True, **COMMON)  # type: ignore[arg-type]
@given(GRANTS, st.lists(USED, min_size=2, max_size=2))
def test_two_months_of_random_credit_add_up(
    company: Company,
    grants: list[tuple[str, Decimal, str | None, list[str] | None, int]],
    months: list[list[tuple[str, Decimal]]],
) -> None:
    _months(company, f"acme-{uuid4()}", grants, months)
    company.check()


@pytest.mark.soak
@settings(max_examples=150, **COMMON)  # type: ignore[arg-type]
@given(GRANTS, st.lists(USED, min_size=2, max_size=2))
def test_many_months_of_random_credit_add_up(
    company: Company,
    grants: list[tuple[str, Decimal, str | None, list[str] | None, int]],
    months: list[list[tuple[str, Decimal]]],
) -> None:
    _months(company, f"acme-{uuid4()}", grants, months)
    company.check()

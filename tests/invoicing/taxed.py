"""Taxed customers: rates and profiles in one line each, usage at prices with tax on top or inside."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid4

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from invoicing.tax.profiles import TaxDetails, set_tax_profile
from invoicing.tax.rates import LoadedRates, load_rates, rates_from_toml
from invoicing.tax.tables import TaxProfile
from ledger import accounts
from ledger.entries import NewEntry, digest, entry_id, transaction_id
from ledger.posting import post
from tests.invoicing.conftest import Company, at

SELLER = "IE"


def rates_file(*rates: tuple[str, str, str] | tuple[str, str, str, str]) -> str:
    """A file of rates valid from 2020 on: jurisdiction, name, percent, and an item."""
    return "\n".join(
        f'[[rates]]\njurisdiction = "{rate[0]}"\nname = "{rate[1]}"\npercent = "{rate[2]}"\nvalid_from = 2020-01-01\n'
        + (f'item = "{rate[3]}"\n' if len(rate) == 4 else "")
        for rate in rates
    )


def load(engine: Engine, content: str) -> LoadedRates:
    with Session(engine) as session, session.begin():
        return load_rates(session, rates_from_toml(content), actor="test", now=at("2025-01-01"))


def profile(
    engine: Engine,
    name: str,
    country: str,
    *,
    valid_from: datetime | None = None,
    now: datetime = at("2025-01-02"),  # noqa: B008 - a constant
    seller: str | None = SELLER,
    details: Mapping[str, str] | None = None,
    **more: str,
) -> tuple[TaxProfile, bool]:
    with Session(engine, expire_on_commit=False) as session, session.begin():
        return set_tax_profile(
            session,
            customer_id=customer_id_for(name),
            details=TaxDetails(country, **{**(details or {}), **more}),
            seller_country=seller,
            valid_from=valid_from,
            reason="Told by the customer",
            actor="test",
            now=now,
        )


def price(engine: Engine, item: str, currency: str, *, inclusive: bool) -> UUID:
    """A price of one unit, with tax on top or inside."""
    price_id = uuid4()
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO items (code, name, created_at) VALUES (:item, :item, now()) ON CONFLICT DO NOTHING"),
            {"item": item},
        )
        connection.execute(
            text(
                "INSERT INTO prices (id, item, currency, unit_amount, valid_from, created_at, created_by,"
                " tax_inclusive) VALUES (:id, :item, :currency, 1, '2020-01-01Z', now(), 'test', :inclusive)"
            ),
            {"id": price_id, "item": item, "currency": currency, "inclusive": inclusive},
        )
    return price_id


def use_priced(company: Company, name: str, day: str, amount: str, *, item: str, price_id: UUID) -> None:
    """Post usage worth `amount` at this price; a negative amount the other way round."""
    value = Decimal(amount)
    transaction = transaction_id("test", f"{name} {day} {item} {price_id} {amount}")
    debit, credit = (accounts.UNBILLED, accounts.USAGE) if value >= 0 else (accounts.USAGE, accounts.UNBILLED)
    entry = NewEntry(
        customer_id=customer_id_for(name),
        id=entry_id(transaction, "usage"),
        transaction_id=transaction,
        debit_account=debit,
        credit_account=credit,
        amount=abs(value),
        quantity=abs(value),
        effective_at=at(day),
        kind="usage",
        actor="test",
        digest=digest({"amount": value}),
        item=item,
        price_id=price_id,
    )
    with Session(company.engine) as session, session.begin():
        post(session, [entry], now=at(day))

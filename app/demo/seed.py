"""Fills an empty database with the demo, through the same functions that the platform, cron and staff use."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts import staff
from app.accounts.tables import StaffUser
from app.accounts.tokens import create_token
from app.composition import Billing, build
from app.config import Config
from app.demo import aftermath, reviews, terms
from app.demo.world import (
    CUSTOMERS,
    OPEN_DRAFT_ROLES,
    REVIEW_WINDOW,
    SENT_ROLES,
    TRANSFER_ROLES,
    Calendar,
    DemoCustomer,
    Role,
    usage,
)
from app.embedded.state import SANDBOX_KEY_PREFIX
from invoicing.credit.grants import grant_credit
from invoicing.customers import create_customer, customer_id_for
from invoicing.cycles import close_due
from invoicing.drafts import list_drafts
from invoicing.finalization import finalize
from invoicing.finalizing import finalize_due
from invoicing.prices.changes import load_content
from invoicing.prices.files import fly_prices, in_currency, seed_prices
from invoicing.tables import Customer, Invoice
from invoicing.usage.intake import UsageRecord, post_usage
from ledger import accounts
from ledger.tables import Books

ACTOR = "demo"
BATCH = 5_000  # usage records per posting
EUROS_PER_DOLLAR = Decimal("0.9")

SIGN_INS: list[tuple[str, str, str]] = [
    ("viewer@demo.test", "viewer-demo-only", "viewer"),
    ("agent@demo.test", "agent-demo-only", "agent"),
    ("approver@demo.test", "approver-demo-only", "approver"),
    ("admin@demo.test", "admin-demo-only", "admin"),
]
"""E-mail, password, role. Fixed, since they open nothing but a demo on a loopback address."""

PLATFORM = "demo-platform"
"""Whose API token the demo makes."""
KEPT_IN = "demo_api_token"
"""The file under `var/` that keeps it."""

CARD = "pm_card_visa"
CARDS: dict[Role, str] = {
    "declined": "pm_card_chargeCustomerFail",
    "disputed": "pm_card_createDispute",
    "dispute_lost": "pm_card_createDisputeProductNotReceived",
}
"""Cards with a fate of their own: all can be attached. Source: https://docs.stripe.com/testing"""


class NotTheSandbox(Exception):
    """Demo data is made only where Stripe is the sandbox. Unset STRIPE_API_KEY to use the embedded one."""

    code = "not_the_sandbox"


class DatabaseInUse(Exception):
    """This database has customers that are not the demo's, so the demo stays out. Use an empty database."""

    code = "database_in_use"


@dataclass(frozen=True, slots=True)
class DemoResult:
    """`seeded` is False if the demo was there already. Invoices are counted by state."""

    seeded: bool
    customers: int
    entries: int
    invoices: dict[str, int]


def seed_if_empty(
    config: Config, *, now: datetime | None = None, progress: Callable[[str], None] | None = None
) -> DemoResult:
    """Make the demo's customers, usage, invoices, payment methods and sign-ins, if they are not there.

    The sandbox must answer; web, worker and cron need not run: they take over from here, sync what is final and
    receive what was paid. A run that was interrupted is completed by the next one. `now` is the clock, read here
    unless given.

    Raises:
        NotTheSandbox: Stripe could be the real one.
        DatabaseInUse: there are customers of somebody's.
    """
    if not config.is_sandbox or not config.stripe_api_key.startswith(SANDBOX_KEY_PREFIX):
        raise NotTheSandbox(NotTheSandbox.__doc__)
    now = now or datetime.now(UTC)
    say = progress or (lambda _: None)
    billing = build(config)
    try:
        with Session(billing.engine) as session:
            if _is_complete(session):
                return _result(session, seeded=False)
            _refuse_others(session)
        _make(billing, now=now, say=say)
        with Session(billing.engine) as session:
            return _result(session, seeded=True)
    finally:
        billing.dispose()


def read_token(config: Config) -> str | None:
    """The platform's token as it was made with the demo, None if there is none."""
    try:
        return (config.var / KEPT_IN).read_text().strip()
    except FileNotFoundError:
        return None


def _make(billing: Billing, *, now: datetime, say: Callable[[str], None]) -> None:
    calendar = Calendar(now)
    say("customers and their usage")
    _post_everything(billing, calendar)
    say("payment methods at the sandbox")
    for customer in CUSTOMERS:
        _give_card(billing, customer, now=now)
    say("closed months, their invoices and reviews")
    _grant_credits(billing, now=now)
    terms.grant_expiring_credit(billing, now=now)
    terms.sell_credit(billing, now=now)
    _run_cycles(billing, calendar)
    terms.bill_early(billing, now=now)
    reviews.review_drafts(billing, now=now)
    _finalize_the_rest(billing, now=now)
    say("what happened to invoices after they were final")
    aftermath.live_on(billing, say=say)
    say("sign-ins")
    _open_doors(billing, now=now)


def _is_complete(session: Session) -> bool:
    """The sign-ins are made last, so the last of them says that all the rest is there."""
    return session.scalar(select(StaffUser.id).where(StaffUser.email == SIGN_INS[-1][0])) is not None


def _refuse_others(session: Session) -> None:
    if session.scalar(select(Customer.customer_id).where(Customer.created_by != ACTOR).limit(1)) is not None:
        raise DatabaseInUse(DatabaseInUse.__doc__)


def _post_everything(billing: Billing, calendar: Calendar) -> None:
    """Prices, customers, terms and usage, all in one transaction: an interrupted run leaves all of it or nothing."""
    with Session(billing.engine) as session, session.begin():
        if session.scalar(select(Customer.customer_id).limit(1)) is not None:
            return
        seed_prices(session, actor=ACTOR, now=calendar.now)
        load_content(
            session,
            content=in_currency(fly_prices(), currency="EUR", rate=EUROS_PER_DOLLAR),
            title="Fly.io's public price list, in euros",
            publish=True,
            actor=ACTOR,
            now=calendar.now,
        )
        for customer in CUSTOMERS:
            _create(session, customer, calendar)
        terms.agree(session, calendar=calendar, seller_country=billing.settings.seller_country)
        records: list[UsageRecord] = []
        for customer in CUSTOMERS:
            records += usage(customer, calendar)
        for start in range(0, len(records), BATCH):
            post_usage(session, records[start : start + BATCH], source="demo-meter", actor=ACTOR, now=calendar.now)


def _create(session: Session, customer: DemoCustomer, calendar: Calendar) -> None:
    create_customer(
        session,
        external_id=customer.external_id,
        name=customer.name,
        email=customer.email,
        currency=customer.currency,
        time_zone=customer.time_zone,
        anchor_day=customer.anchor_day,
        collection_method="send_invoice" if customer.role in SENT_ROLES | TRANSFER_ROLES else "automatic",
        provider="manual" if customer.role in TRANSFER_ROLES else "stripe",
        draft_window_s=int(REVIEW_WINDOW.total_seconds()) if customer.role in OPEN_DRAFT_ROLES else None,
        actor=ACTOR,
        now=calendar.created_at(customer),
    )


def _give_card(billing: Billing, customer: DemoCustomer, *, now: datetime) -> None:
    if customer.role in SENT_ROLES | TRANSFER_ROLES:
        return
    billing.provider.set_payment_method(
        customer_id=customer_id_for(customer.external_id),
        payment_method=CARDS.get(customer.role, CARD),
        now=now,
    )


def _grant_credits(billing: Billing, *, now: datetime) -> None:
    grants = {
        "credited": (accounts.CREDITS_PROMOTIONAL, Decimal(25), "Welcome credit"),
        "part_credited": (accounts.CREDITS_GOODWILL, Decimal(12), "Outage in fra on the 9th"),
    }
    with Session(billing.engine) as session, session.begin():
        for customer in CUSTOMERS:
            if customer.role not in grants:
                continue
            account, amount, reason = grants[customer.role]
            customer_id = customer_id_for(customer.external_id)
            grant_credit(
                session,
                customer_id=customer_id,
                grant_id=uuid5(customer_id, "demo credit"),
                account=account,
                amount=amount,
                reason=reason,
                actor=reviews.AGENT,
                now=now,
            )


def _run_cycles(billing: Billing, calendar: Calendar) -> None:
    """What cron would have done on every day since the first month, then what it would do now.

    The grace time is waived for the last run, so that last month is closed even on the morning of the 1st.
    """
    for as_of in _noons(calendar):
        close_due(billing.engine, as_of=as_of, settings=billing.settings)
        finalize_due(billing.engine, provider=billing.providers, as_of=as_of)
    at_once = replace(billing.settings, grace=timedelta(0))
    close_due(billing.engine, as_of=calendar.now, settings=at_once)


def _noons(calendar: Calendar) -> list[datetime]:
    """The noons (UTC) after which a period may have ended, or a draft's window: of few days in each month."""
    found: list[datetime] = []
    day: date = calendar.first_month
    while day < calendar.now.date():
        if day.day in (1, 2, 3, 4, 15, 16, 17, 18) or (day + timedelta(days=1)).day == 1:
            found.append(datetime(day.year, day.month, day.day, 12, tzinfo=UTC))
        day += timedelta(days=1)
    return found


def _finalize_the_rest(billing: Billing, *, now: datetime) -> None:
    """As staff would by hand: everything that nobody wants to look at."""
    kept_open = {customer_id_for(c.external_id) for c in CUSTOMERS if c.role in OPEN_DRAFT_ROLES}
    with Session(billing.engine) as session:
        drafts = [row.invoice for row in list_drafts(session, held=False)]
        keys: list[tuple[UUID, UUID]] = [
            (draft.customer_id, draft.id) for draft in drafts if draft.customer_id not in kept_open
        ]
    for customer_id, invoice_id in keys:
        with Session(billing.engine) as session, session.begin():
            finalize(
                session,
                customer_id=customer_id,
                invoice_id=invoice_id,
                provider=billing.providers,
                actor=reviews.APPROVER,
                now=now,
            )


def _open_doors(billing: Billing, *, now: datetime) -> None:
    """The platform's token first, the sign-ins last: they mark the demo as complete."""
    with Session(billing.engine) as session, session.begin():
        token = create_token(session, name=PLATFORM, now=now)
        for email, password, role in SIGN_INS:
            staff.create_user(session, email=email, name=f"Demo {role}", role=role, password=password, now=now)
        path = billing.config.var / KEPT_IN
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(token + "\n")


def _result(session: Session, *, seeded: bool) -> DemoResult:
    states = session.execute(select(Invoice.state, func.count()).group_by(Invoice.state).order_by(Invoice.state))
    customers = session.scalar(select(func.count()).select_from(Customer)) or 0
    entries = session.scalar(select(func.sum(Books.last_seq))) or 0
    return DemoResult(seeded, customers, int(entries), dict(states.all()))

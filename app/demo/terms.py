"""What was agreed with some of the demo's customers: plans, a price list, where they are taxed, credit that expires
or was bought, a bill before the month's end, a spending threshold; and a price change that waits for a second person.

All of it goes through the functions that staff's pages, commands and the API call.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy.orm import Session

from app.composition import Billing
from app.demo.reviews import AGENT, APPROVER
from app.demo.world import CUSTOMERS, Calendar, DemoCustomer, Role
from invoicing.credit.grants import grant_credit
from invoicing.credit.refills import set_refill
from invoicing.credit.top_ups import top_up
from invoicing.customers import customer_id_for
from invoicing.early_bills import CannotBillNow, NothingToBill, bill_now, set_threshold
from invoicing.plans.catalogue import plans_from_file, publish_plans
from invoicing.prices.agreements import agree_price_list, give_discount
from invoicing.prices.changes import draft_change, load_content, publish_change
from invoicing.prices.content import PriceContent
from invoicing.prices.files import fly_document, parse_document, read_prices
from invoicing.subscriptions import subscribe
from invoicing.tables import CreditGrant
from invoicing.tax.profiles import TaxDetails, set_tax_profile
from invoicing.tax.rates import load_rates, rates_from_toml
from ledger import accounts

SELLER_COUNTRY = "IE"
"""Where the demo's platform is, unless BILLING_SELLER_COUNTRY says otherwise."""

TAX_RATES = """
[[rates]]
jurisdiction = "DE"
name = "VAT"
percent = 19
valid_from = 2021-01-01

[[rates]]
jurisdiction = "FR"
name = "VAT"
percent = 20
valid_from = 2014-01-01

[[rates]]
jurisdiction = "IE"
name = "VAT"
percent = 23
valid_from = 2021-03-01
"""
"""Standard rates. Source: https://europa.eu/youreurope/business/taxation/vat/vat-rules-rates/index_en.htm"""

AGREED_PRICES = """
title = "What was agreed with newsrooms"
currency = "USD"
valid_from = 2020-01-01T00:00:00Z

[[lists]]
code = "newsrooms"
name = "Newsrooms and archives"

[[items]]
code = "egress"
name = "Outbound data to the internet"
unit = "GB"
price_list = "newsrooms"
model = "graduated"
included = 100
tiers = [
    { first = 0, unit_amount = 0.02 },
    { first = 1000, unit_amount = 0.015 },
    { first = 5000, unit_amount = 0.01 },
]
"""
NEWSROOMS = "newsrooms"

PLAN_TAKEN_AFTER = timedelta(days=3, hours=9)
UPGRADED_AFTER = timedelta(days=14, hours=15)
"""How long after they came two customers take Launch, and one of them changes to Scale."""

THRESHOLD = Decimal(500)
EXPIRING_CREDIT = Decimal(40)
TOP_UP, REFILL_BELOW = Decimal(50), Decimal(10)
CREDIT_LASTS = timedelta(days=45)
HIGHER_STORAGE = "0.17"


def agree(session: Session, *, calendar: Calendar, seller_country: str | None) -> None:
    """Everything that has to be known before usage is posted. The caller commits."""
    now = calendar.now
    publish_plans(session, plans_from_file(fly_document()), actor=APPROVER, now=now)
    load_rates(session, rates_from_toml(TAX_RATES), actor=APPROVER, now=now)
    agreed = _prices(AGREED_PRICES)
    loaded = load_content(
        session, content=agreed, title="Prices for newsrooms", publish=True, actor=AGENT, now=now
    )  # fmt: skip
    if loaded.change_id is not None:
        publish_change(session, change_id=loaded.change_id, actor=APPROVER, now=now)
    for customer in CUSTOMERS:
        _agree_with(session, customer, calendar=calendar, seller_country=seller_country or SELLER_COUNTRY)
    draft_change(session, content=_storage(calendar), title="Dearer volumes", actor=AGENT, now=now)


def _agree_with(session: Session, customer: DemoCustomer, *, calendar: Calendar, seller_country: str) -> None:
    came = calendar.created_at(customer)
    match customer.role:
        case "launch":
            _take(session, customer, "launch", "Wanted support by mail.", at=came + PLAN_TAKEN_AFTER)
        case "upgraded":
            _take(session, customer, "launch", "Wanted support by mail.", at=came + PLAN_TAKEN_AFTER)
            _take(session, customer, "scale", "Needs help within hours now.", at=came + UPGRADED_AFTER)
        case "tiered":
            agree_price_list(
                session, customer_id=_id(customer), price_list=NEWSROOMS, valid_from=came,
                reason="Agreed when they signed up.", actor=AGENT, now=calendar.now,
            )  # fmt: skip
            give_discount(
                session, customer_id=_id(customer), percent=Decimal(10), item="volume", valid_from=came,
                valid_until=None, reason="They moved their archive to us.", actor=AGENT, now=calendar.now,
            )  # fmt: skip
        case "vat":
            _tax(session, customer, TaxDetails("DE"), came, seller_country=seller_country)
        case "reverse_charge":
            details = TaxDetails("FR", tax_id="FR 12 123456789", tax_id_type="eu_vat")
            _tax(session, customer, details, came, seller_country=seller_country)
        case "threshold":
            set_threshold(
                session, customer_id=_id(customer), amount=THRESHOLD, reason="They pay late now and then.",
                actor=AGENT, now=came,
            )  # fmt: skip


def grant_expiring_credit(billing: Billing, *, now: datetime) -> None:
    """Promotional credit for one customer, more than an invoice needs: what is left of it will expire."""
    customer_id = _id(of_role("credit_expires"))
    with Session(billing.engine) as session, session.begin():
        grant_id = uuid5(customer_id, "demo credit that expires")
        if session.get(CreditGrant, (customer_id, grant_id)) is not None:
            return
        grant_credit(
            session, customer_id=customer_id, grant_id=grant_id, account=accounts.CREDITS_PROMOTIONAL,
            amount=EXPIRING_CREDIT, reason="Welcome, for the first weeks", actor=AGENT, now=now,
            expires_at=(now + CREDIT_LASTS).replace(hour=0, minute=0, second=0, microsecond=0),
        )  # fmt: skip


def sell_credit(billing: Billing, *, now: datetime) -> None:
    """One customer bought credit in advance, and wants more whenever little is left. Stripe collects it like a bill."""
    customer_id = _id(of_role("prepaid"))
    top_up_id = uuid5(customer_id, "demo top-up")
    with Session(billing.engine) as session, session.begin():
        if session.get(CreditGrant, (customer_id, top_up_id)) is not None:
            return
        set_refill(
            session, customer_id=customer_id, threshold=REFILL_BELOW, amount=TOP_UP, provider=billing.providers,
            actor=AGENT, now=now,
        )  # fmt: skip
        top_up(
            session, customer_id=customer_id, top_up_id=top_up_id, amount=TOP_UP, provider=billing.providers,
            actor=AGENT, now=now,
        )  # fmt: skip


def bill_early(billing: Billing, *, now: datetime) -> None:
    """One customer wants the bill before the month is over. In the month's first hours there is nothing to bill."""
    with Session(billing.engine) as session, session.begin():
        try:
            bill_now(
                session, customer_id=_id(of_role("early")), cause="early", actor=AGENT, settings=billing.settings,
                reason="Their year ends this week; they asked by telephone.", now=now,
            )  # fmt: skip
        except (NothingToBill, CannotBillNow):
            return


def of_role(role: Role) -> DemoCustomer:
    """The one customer with this role."""
    return next(customer for customer in CUSTOMERS if customer.role == role)


def _take(session: Session, customer: DemoCustomer, plan: str, reason: str, *, at: datetime) -> None:
    subscribe(session, customer_id=_id(customer), plan=plan, reason=reason, actor=AGENT, now=at)


def _tax(session: Session, customer: DemoCustomer, details: TaxDetails, came: datetime, *, seller_country: str) -> None:
    set_tax_profile(
        session, customer_id=_id(customer), details=details, seller_country=seller_country, valid_from=came,
        reason="As they told us when they signed up.", actor=AGENT, now=came,
    )  # fmt: skip


def _storage(calendar: Calendar) -> PriceContent:
    """Volumes cost more from the month after the next on."""
    later = datetime(
        calendar.now.year + (calendar.now.month + 1) // 12, (calendar.now.month + 1) % 12 + 1, 1, tzinfo=UTC
    )
    return _prices(
        f"""
        currency = "USD"
        valid_from = {later.isoformat()}

        [[items]]
        code = "volume"
        name = "Volume storage"
        unit = "GB-month"
        unit_amount = {HIGHER_STORAGE}
        """
    )


def _prices(text: str) -> PriceContent:
    return read_prices(parse_document(text.encode()))


def _id(customer: DemoCustomer) -> UUID:
    return customer_id_for(customer.external_id)

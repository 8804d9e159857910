"""The demo: made once, the same each time, never near the real Stripe, and with one of everything worth seeing."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
import requests
from click.testing import CliRunner
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.accounts import staff, tokens
from app.cli.demo import demo
from app.composition import build
from app.config import Config
from app.demo import aftermath, seed, terms
from app.demo.seed import DatabaseInUse, NotTheSandbox, seed_if_empty
from app.demo.world import CUSTOMERS, Calendar, Role, usage
from app.panel.links import claim_link
from invoicing import checks as invoicing_checks
from invoicing.credit.lots import lots_of
from invoicing.credit.top_ups import open_top_ups
from invoicing.customers import create_customer, customer_id_for
from invoicing.drafts import InvoiceView, get_invoice, list_drafts, list_invoices
from invoicing.early_bills import early_bills_of, threshold_of
from invoicing.manual.bank_lines import bank_lines
from invoicing.movements import tasks
from invoicing.movements.tables import CreditNote, Dispute, Movement, Payout, Refund
from invoicing.prices.changes import list_changes
from invoicing.subscriptions import subscription_at
from invoicing.tables import Customer, Invoice, Payment
from invoicing.tax.invoices import taxes_of
from ledger.checks import CHECKS, run_checks
from tests.demo.conftest import KEY
from tests.processes.sandbox import SandboxProcess

WEEKS = timedelta(days=20)


def _newest_state(session: Session, role: str) -> set[str]:
    """The state of the newest invoice of each customer with this role."""
    ids = [customer_id_for(customer.external_id) for customer in CUSTOMERS if customer.role == role]
    return {list_invoices(session, customer_id=customer_id)[0].state for customer_id in ids}


def _check_books(session: Session) -> None:
    for result in run_checks(session, {**CHECKS, **invoicing_checks.CHECKS}):
        assert result.holds, f"{result.name}: {result.offenders}"


def test_the_demo_has_one_of_everything(config: Config, engine: Engine, sandbox: SandboxProcess) -> None:
    result = seed_if_empty(config)
    assert result.seeded
    assert result.customers == 40
    assert 5_000 < result.entries < 20_000
    with Session(engine) as session:
        _check_books(session)
        for role, states in (
            ("plain", {"final"}),
            ("declined", {"final"}),
            ("sent", {"final"}),
            ("part_credited", {"final"}),
            ("credited", {"paid"}),
            ("tiny", {"carried_forward"}),
            ("anomaly", {"draft"}),
            ("adjusted", {"draft"}),
            ("unapproved", {"draft"}),
            ("waived", {"draft"}),
            ("reviewed", {"draft"}),
            ("settled", {"paid"}),
            ("corrected", {"final"}),
            ("refunded", {"paid"}),
            ("refund_failed", {"paid"}),
            ("disputed", {"paid"}),
            ("dispute_lost", {"paid"}),
            ("written_off", {"uncollectible"}),
            ("doubtful", {"paid"}),
            ("transfer", {"paid"}),
            ("transfer_too_much", {"paid"}),
        ):
            assert _newest_state(session, role) == states, role
        drafts = list_drafts(session)
        assert [row.customer_name for row in drafts if row.invoice.held_at] == ["Ninepin Ticketing"]
        assert [row.customer_name for row in drafts if row.needs_approval] == ["Quillfeather Press"]
        for email, password, role in seed.SIGN_INS:
            assert staff.verify(session, email=email, password=password).role == role
        token = seed.read_token(config)
        assert token is not None
        assert tokens.recognise(session, token=token).name == seed.PLATFORM
    assert oct((config.var / seed.KEPT_IN).stat().st_mode)[-3:] == "600"
    _look_at_the_aftermath(engine)
    _look_at_the_terms(engine)
    asked = sandbox.counts()
    again = seed_if_empty(config)
    assert sandbox.counts() == asked, "a second run asks Stripe for nothing"
    assert again == replace(result, seeded=False)
    _collect_and_look(config, engine, sandbox)


def _look_at_the_aftermath(engine: Engine) -> None:
    """Each thing that can happen to a final invoice did happen to one, and left the traces that staff look for."""
    with Session(engine) as session:
        moves = {row.customer_id: row for row in session.scalars(select(Movement))}
        ended = {role: moves[_customer(role)].state for role in aftermath.WISHES}
        assert ended == dict.fromkeys(aftermath.WISHES, "done") | {"doubtful": "awaiting_approval"}
        (corrected,) = session.scalars(select(CreditNote).where(CreditNote.customer_id == _customer("corrected")))
        assert corrected.cash_part == 0
        assert corrected.unpaid_part > 0
        refunds = {row.customer_id: row.state for row in session.scalars(select(Refund))}
        assert refunds == {_customer("refunded"): "succeeded", _customer("refund_failed"): "failed"}
        disputes = {row.customer_id: row for row in session.scalars(select(Dispute))}
        assert disputes[_customer("dispute_lost")].status == "lost"
        open_one = disputes[_customer("disputed")]
        assert open_one.status == "needs_response"
        assert open_one.evidence_due_at is not None
        assert open_one.evidence_due_at < datetime.now(UTC) + timedelta(days=3)
        states = [row.state for row in list_invoices(session, customer_id=_customer("rebilled"))]
        assert sorted(states) == ["draft", "void"]
        (payout,) = session.scalars(select(Payout))
        assert (payout.status, payout.reconciled_at is None) == ("paid", False)
        assert [line.payer for line in bank_lines(session, state="open", limit=9)] == ["Barnacle Chandlery"]
        (too_much,) = session.scalars(select(Payment).where(Payment.customer_id == _customer("transfer_too_much")))
        (due,) = [row for row in list_invoices(session, customer_id=too_much.customer_id) if row.state == "paid"]
        assert due.amount_due is not None
        assert too_much.amount == due.amount_due + aftermath.TOO_MUCH
        kinds = tasks.count_open(session)
        assert kinds == {"dispute_needs_response": 1, "refund_failed": 1, "unknown_money": 1}


def _look_at_the_terms(engine: Engine) -> None:
    """Plans, taxes, tiers, credit, early bills and a draft of prices: each left what a page or an invoice shows."""
    now = datetime.now(UTC)
    with Session(engine, expire_on_commit=False) as session:
        on_plans: list[tuple[Role, str, set[str]]] = [
            ("launch", "launch", {"plan:launch", "plan:launch:included"}),
            ("upgraded", "scale", {"plan:launch", "plan:scale", "plan:scale:included"}),
        ]
        for role, plan, lines in on_plans:
            subscription = subscription_at(session, customer_id=_customer(role), at=now)
            assert subscription is not None
            assert subscription.terms.plan == plan
            assert lines <= _lines_of_last_month(session, role).keys(), role
        taxed: list[tuple[Role, str]] = [("vat", "rate"), ("reverse_charge", "reverse_charge")]
        for role, treatment in taxed:
            invoice = _last_month(session, role).invoice
            (tax,) = taxes_of(session, customer_id=invoice.customer_id, invoice_id=invoice.id)
            assert (tax.treatment, tax.amount > 0) == (treatment, role == "vat")
        given_back = _lines_of_last_month(session, "launch")["plan:launch:included"]
        assert -29 < given_back < 0, "a part of what Launch includes was used"
        tiered = _lines_of_last_month(session, "tiered")
        assert round(tiered["egress"], 2) == 93  # 1,000 at 0.02, 4,000 at 0.015, 1,300 at 0.01
        assert any(line.amount < 0 for line in _last_month(session, "tiered").lines if line.item == "volume")
        (lot,) = lots_of(session, customer_id=_customer("credit_expires"))
        assert 0 < lot.remaining < lot.amount
        assert lot.expires_at is not None
        assert [top_up.total for top_up in open_top_ups(session, customer_id=_customer("prepaid"))] == [terms.TOP_UP]
        bills = early_bills_of(session, customer_id=_customer("early"))
        assert len(bills) == 1 or now.day == 1
        threshold = threshold_of(session, customer_id=_customer("threshold"))
        assert threshold is not None
        assert threshold.amount == terms.THRESHOLD
        assert [change.state for change in list_changes(session)].count("drafted") == 1


def _last_month(session: Session, role: Role) -> InvoiceView:
    """The newest invoice of a whole month of the customer with this role."""
    found = [i for i in list_invoices(session, customer_id=_customer(role)) if i.period_end - i.period_start > WEEKS]
    return get_invoice(session, customer_id=_customer(role), invoice_id=found[0].id)


def _lines_of_last_month(session: Session, role: Role) -> dict[str, Decimal]:
    """The sum of each item."""
    found: dict[str, Decimal] = {}
    for line in _last_month(session, role).lines:
        found[line.item or ""] = found.get(line.item or "", Decimal(0)) + line.amount
    return found


def _customer(role: Role) -> UUID:
    return customer_id_for(aftermath.of_role(role).external_id)


def _collect_and_look(config: Config, engine: Engine, sandbox: SandboxProcess) -> None:
    """What the worker does next: everything final reaches the sandbox, which charges each card, one of them in vain."""
    billing = build(config)
    for _ in range(30):
        billing.provider.sync_due(now=datetime.now(UTC))
        with Session(engine) as session:
            counts = billing.provider.sync_counts(session)
            unsent = session.scalars(
                select(Invoice.number)
                .join(Customer, Customer.customer_id == Invoice.customer_id)
                .where(Invoice.state == "final", Customer.provider == "stripe")
            ).all()
        if set(counts) == {"done"}:
            break
    found = _invoices_at(sandbox)
    assert counts == {"done": len(found)}
    assert set(unsent) <= {invoice["number"] for invoice in found}
    # Four customers are sent their invoice; the sandbox charges all others, one of them in vain.
    assert Counter(invoice["collection_method"] for invoice in found)["send_invoice"] == 4
    report = billing.provider.reconcile(now=datetime.now(UTC))
    billing.dispose()
    assert [one.kind for one in report.unexplained] == ["unknown_money"]


def _invoices_at(sandbox: SandboxProcess) -> list[dict[str, str]]:
    answer = requests.get(f"{sandbox.url}/v1/invoices?limit=100", auth=(KEY, ""), timeout=10)
    found: list[dict[str, str]] = answer.json()["data"]
    return found


def test_a_sandbox_that_answers_nothing_any_more_does_not_hold_the_site_up(
    config: Config, engine: Engine, sandbox: SandboxProcess
) -> None:
    said: list[str] = []

    def cut(step: str) -> None:
        said.append(step)
        if step.startswith("what happened"):
            sandbox.fault("*", "reset_before", count=None)

    result = seed_if_empty(config, progress=cut)
    assert result.seeded
    assert any(step.startswith("without some of what happened") for step in said)
    with Session(engine) as session:
        _check_books(session)


def test_an_interrupted_run_is_completed(config: Config, engine: Engine) -> None:
    def interrupt(step: str) -> None:
        if step == "sign-ins":
            raise KeyboardInterrupt

    now = datetime.now(UTC)
    with pytest.raises(KeyboardInterrupt):
        seed_if_empty(config, now=now - timedelta(hours=2), progress=interrupt)
    # By now today's usage would read differently; what was posted stays as it is.
    result = seed_if_empty(config, now=now)
    assert result.seeded
    with Session(engine) as session:
        _check_books(session)
        customer_id = customer_id_for(next(c.external_id for c in CUSTOMERS if c.role == "adjusted"))
        (invoice,) = [i for i in list_invoices(session, customer_id=customer_id) if i.state == "draft"]
        assert len(get_invoice(session, customer_id=customer_id, invoice_id=invoice.id).adjustments) == 2


def test_the_demo_stays_out_of_a_database_with_real_customers(config: Config, engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        create_customer(
            session, external_id="real", name="Real", currency="USD", actor="api:platform", now=datetime.now(UTC)
        )
    with pytest.raises(DatabaseInUse):
        seed_if_empty(config)
    with Session(engine) as session:
        assert len(list_invoices(session, customer_id=customer_id_for("real"))) == 0


@pytest.mark.parametrize(
    ("key", "base"),
    [("sk_test_51abc", None), ("rk_live_51abc", None), ("sk_live_51abc", "http://127.0.0.1:9")],
)
def test_the_demo_never_goes_near_the_real_stripe(config: Config, key: str, base: str | None) -> None:
    with pytest.raises(NotTheSandbox):
        seed_if_empty(replace(config, stripe_api_key=key, stripe_api_base=base))


@pytest.mark.parametrize(
    "now",
    ["2026-11-01T00:00:00", "2026-11-01T03:00:00", "2026-12-31T23:59:59", "2024-02-29T12:00:00", "2027-01-01T13:30:00"],
)
def test_the_usage_is_past_whole_and_the_same_again(now: str) -> None:
    calendar = Calendar(datetime.fromisoformat(now).replace(tzinfo=UTC))
    for customer in CUSTOMERS:
        records = list(usage(customer, calendar))
        assert records == list(usage(customer, calendar))
        assert len({record.event_id for record in records}) == len(records)
        assert bool(records) == (customer.role != "new")
        for record in records:
            assert calendar.created_at(customer) <= record.effective_at < calendar.now
            assert record.quantity is not None
            assert record.quantity >= 0


def test_a_later_hour_changes_no_day_that_is_over() -> None:
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    for customer in CUSTOMERS[:12]:
        before = {r.event_id: r.quantity for r in usage(customer, Calendar(noon))}
        after = {r.event_id: r.quantity for r in usage(customer, Calendar(noon + timedelta(hours=5)))}
        # Of the day that runs, and of the customer's next one, only.
        changed = {key for key in after if after[key] != before.get(key)}
        assert all(key.partition(":2026")[2][:6] in ("-11-21", "-11-22") for key in changed)


def test_names_and_addresses_are_nobodys() -> None:
    assert len(CUSTOMERS) == 40
    assert len({customer.external_id for customer in CUSTOMERS}) == 40
    assert all(customer.email.endswith(".test") for customer in CUSTOMERS)
    assert all(len(customer.email) < 60 for customer in CUSTOMERS)


def test_the_command_prints_a_link_that_opens_the_panel(config: Config, engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        for name in ("Lanternfish Logistics", "Lanternfish Lighting"):
            create_customer(
                session,
                external_id=f"org-{name.lower().replace(' ', '-')}",
                name=name,
                currency="USD",
                actor="demo",
                now=datetime.now(UTC),
            )
    given = CliRunner(
        env={
            "DATABASE_URL": config.database_url,
            "REDIS_URL": config.redis_url,
            "STRIPE_API_KEY": config.stripe_api_key,
            "STRIPE_API_BASE": config.stripe_api_base,
            "STRIPE_WEBHOOK_SECRET": ",".join(config.stripe_webhook_secrets),
            "SECRET_KEY": config.secret_key,
            "BILLING_PUBLIC_URL": config.public_url,
            "BILLING_VAR": str(config.var),
        }
    )
    for words, name in (([], "Logistics"), (["lighting"], "Lighting")):
        result = given.invoke(demo, ["panel-link", *words])
        assert result.exit_code == 0, result.output
        address = result.stdout.strip()
        assert address.startswith(f"{config.public_url}/billing/open/")
        with Session(engine) as session:
            link = claim_link(session, token=address.rpartition("/")[2], now=datetime.now(UTC))
            assert link.customer_id == customer_id_for(f"org-lanternfish-{name.lower()}")
    refused = given.invoke(demo, ["panel-link", "lanternfish"])
    assert refused.exit_code != 0
    assert "Several customers fit" in str(refused.exception)

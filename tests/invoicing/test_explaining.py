"""Explaining: whatever somebody points at, the books say who, what, when and why, and it adds up."""

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import create_engine, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from app.cli import main
from invoicing.adjustments import approve, credit_line, undo
from invoicing.credit.grants import grant_credit
from invoicing.customers import customer_id_for
from invoicing.explaining.answers import (
    BalanceExplained,
    EntryExplained,
    InvoiceExplained,
    LineDisagrees,
    LineExplained,
    explain,
)
from invoicing.explaining.subjects import AmbiguousSubject, UnknownSubject
from invoicing.payments import record_payment
from invoicing.prices.catalogue import ItemDetails, publish_price
from invoicing.settings import Settings
from invoicing.tables import Invoice
from invoicing.usage.intake import UsageRecord, post_usage
from ledger.balances import balances
from ledger.entries import NewEntry, digest, entry_id, transaction_id
from ledger.posting import post
from ledger.tables import Entry
from tests.invoicing.conftest import Company, at

Billing = Callable[..., Result]
ACME = customer_id_for("acme")


@pytest.fixture
def machine(company: Company) -> UUID:
    """An hour of a machine on 3 June at 0.0000008 a second, 2025-06-03; answers its entry's id."""
    company.customer("acme")
    return use_machine(company, "e1", "2025-06-03", "3600")


def use_machine(company: Company, event: str, day: str, quantity: str, *, customer: str = "acme") -> UUID:
    with Session(company.engine) as session, session.begin():
        publish_price(
            session,
            item=ItemDetails("machine", "Machine", "second"),
            currency="USD",
            unit_amount=Decimal("0.0000008"),
            valid_from=at("2025-01-01"),
            actor="pricing@demo.test",
            now=at("2025-01-01"),
        )
        record = UsageRecord(
            row=1, event_id=event, customer=customer, item="machine", quantity=Decimal(quantity),
            effective_at=at(day), labels={"app": "web"},
        )  # fmt: skip
        post_usage(session, [record], source="platform", actor="api:platform", now=at(day) + timedelta(hours=1))
    return entry_id(transaction_id("platform", event), "usage")


def entry_of(session: Session, what: object, customer: str | None = None) -> EntryExplained:
    found = explain(session, what=str(what), customer=customer)
    assert isinstance(found, EntryExplained)
    return found


@pytest.fixture
def billing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Billing:
    """`billing ledger explain` with these words, within this process."""
    for name, value in {
        "DATABASE_URL": database_url,
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "STRIPE_API_KEY": "sk_test_sandbox_explain",
        "STRIPE_API_BASE": "http://127.0.0.1:1",
        "STRIPE_WEBHOOK_SECRET": "whsec_explain",
        "SECRET_KEY": "x" * 40,
    }.items():
        monkeypatch.setenv(name, value)
    return lambda *words: CliRunner().invoke(main, ["ledger", "explain", *words])


def test_usage_is_explained_by_quantity_times_the_price_of_its_time(
    company: Company, machine: UUID, session: Session
) -> None:
    found = entry_of(session, machine)
    assert (found.owner.name, found.owner.external_id, found.owner.currency) == ("acme", "acme", "USD")
    assert found.cause == "Usage, rated at our price, sent by api:platform."
    assert found.calculation is not None
    assert (found.calculation.unit_amount, found.calculation.product) == (Decimal("0.0000008"), Decimal("0.00288"))
    assert found.calculation.product == found.story.entry.amount
    assert (found.calculation.valid_from, found.calculation.valid_until) == (at("2025-01-01"), None)
    assert found.placement == "In time: the period of its use was still open when it was recorded."
    assert (found.invoice, found.line) == (None, None)


def test_a_charge_knows_the_line_and_invoice_that_bill_it(company: Company, machine: UUID, session: Session) -> None:
    company.close("2025-07-01")
    late = use_machine(company, "e2", "2025-06-30", "10")
    company.close("2025-08-01")
    found = entry_of(session, machine)
    assert found.line is not None
    assert found.line.amount == Decimal("0.00288")
    found = entry_of(session, late)
    assert found.placement is not None
    assert found.placement.startswith("Late: the period of its use, from 2025-06-01")
    assert found.invoice is not None
    assert found.line is not None
    assert (found.invoice.period_start, found.line.amount) == (at("2025-07-01"), Decimal("0.000008"))


def test_a_line_is_the_sum_of_its_entries_and_of_no_others(company: Company, machine: UUID, session: Session) -> None:
    use_machine(company, "e2", "2025-06-04", "100")
    company.use("acme", "2025-06-05", "7", item="machine", event="rated by its source")
    company.use("acme", "2025-07-05", "9")
    company.close("2025-07-01")
    priced, rated = sorted(company.invoice("acme", "2025-06").lines, key=lambda line: line.amount)
    found = explain(session, what=str(priced.id))
    assert isinstance(found, LineExplained)
    assert found.explanation is not None
    assert (found.explanation.total, found.explanation.count) == (Decimal("0.00296"), 2)
    assert found.calculation is not None
    assert (found.calculation.quantity, found.calculation.product) == (Decimal(3700), Decimal("0.00296"))
    found = explain(session, what=str(rated.id))
    assert isinstance(found, LineExplained)
    assert found.calculation is None
    assert found.explanation is not None
    assert (found.explanation.total, found.explanation.count) == (Decimal(7), 1)


def test_a_correction_names_author_reason_approver_and_who_undid_it(
    company: Company, machine: UUID, session: Session
) -> None:
    company.use("acme", "2025-06-05", "200", item="volume")
    company.close("2025-07-01")
    invoice = company.invoice("acme", "2025-06").invoice
    keys: dict[str, Any] = {"customer_id": ACME, "invoice_id": invoice.id}
    big = max(company.invoice("acme", "2025-06").lines, key=lambda line: line.amount)
    made = credit_line(
        session, **keys, expected_version=1, line_id=big.id, amount=Decimal(150), reason="slow disks",
        actor="agent@demo.test", settings=Settings(), now=at("2025-07-01"),
    )  # fmt: skip
    approve(session, **keys, expected_version=2, adjustment_id=made.id, actor="boss@demo.test", now=at("2025-07-01"))
    session.commit()
    found = entry_of(session, made.id)
    assert found.cause == (
        "agent@demo.test corrected the draft for 2025-06-01: “Credit: volume”, approved by boss@demo.test."
    )
    assert found.adjustment is not None
    assert (found.adjustment.reason, found.story.entry.reason) == ("slow disks", "slow disks")
    (line,) = (line for line in company.invoice("acme", "2025-06").lines if line.adjustment_id)
    told = explain(session, what=str(line.id))
    assert isinstance(told, LineExplained)
    assert told.correction is not None
    assert told.correction.story.entry.id == made.entry_id
    undo(
        session, **keys, expected_version=3, adjustment_id=made.id, reason="wrong customer", actor="boss@demo.test",
        now=at("2025-07-01"),
    )  # fmt: skip
    session.commit()
    found = entry_of(session, made.entry_id)
    assert found.story.reversed_by is not None
    found = entry_of(session, found.story.reversed_by.id)
    assert found.cause == "boss@demo.test undid the correction “Credit: volume” that agent@demo.test made."
    assert found.story.reverses is not None
    assert found.story.reverses.id == made.entry_id


@pytest.fixture
def paid(company: Company) -> Invoice:
    """June: 25.001 used, 5 of credit, invoiced as 25.00, 20 due and paid."""
    company.customer("acme")
    company.use("acme", "2025-06-03", "25.001")
    with Session(company.engine) as session, session.begin():
        grant_credit(
            session, customer_id=ACME, grant_id=UUID(int=7), account="liabilities:credits:goodwill",
            amount=Decimal(5), reason="Sorry for the outage", actor="agent@demo.test", now=at("2025-06-20"),
        )  # fmt: skip
    company.close("2025-07-01")
    invoice = company.finalize("acme", "2025-06", on="2025-07-02").invoice
    with Session(company.engine) as session, session.begin():
        record_payment(
            session, customer_id=ACME, invoice_id=invoice.id, provider="stripe", external_id="inpay_1",
            amount=Decimal(21), received_at=at("2025-07-03"), actor="stripe", now=at("2025-07-03"),
        )  # fmt: skip
    return invoice


@pytest.mark.parametrize("by_number", [True, False])
def test_an_invoice_is_explained_step_by_step_by_its_number_or_id(
    company: Company, paid: Invoice, session: Session, by_number: bool
) -> None:
    found = explain(session, what=str(paid.number).lower() if by_number else str(paid.id))
    assert isinstance(found, InvoiceExplained)
    assert [(part.title.partition(":")[0], part.explanation.total) for part in found.parts] == [
        ("Charges of the period", Decimal("25.001")),
        ("Rounding to whole cents", Decimal("-0.001")),
        ("What the customer owes by it", Decimal(0)),
    ]
    assert {part.key: part.amount for part in found.parts[2].explanation.by_contra} == {
        "assets:unbilled": Decimal(25), "liabilities:credits:goodwill": Decimal(-5), "assets:stripe": Decimal(-20),
    }  # fmt: skip


def test_a_payment_a_grant_and_a_transaction_lead_to_their_entries(
    company: Company, paid: Invoice, session: Session
) -> None:
    found = entry_of(session, "inpay_1")
    assert found.cause == f"Payment inpay_1 through stripe for invoice {paid.number}, of 21 in all."
    assert [leg.credit_account for leg in found.story.legs] == ["liabilities:unapplied"]
    found = entry_of(session, UUID(int=7))
    assert found.cause == "agent@demo.test granted the credit."
    assert found.grant is not None
    assert found.grant.reason == "Sorry for the outage"
    found = entry_of(session, transaction_id("invoicing:finalize", str(paid.id)))
    assert found.story.leg_count == 2
    kinds = sorted(leg.kind for leg in (found.story.entry, *found.story.legs))
    assert kinds == ["credit", "finalization", "rounding"]
    assert found.invoice is not None
    assert found.invoice.number == paid.number


def test_a_transaction_whose_legs_we_do_not_name_is_found_too(company: Company, session: Session) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "1")
    entry = session.scalars(select(Entry)).one()
    strange = post_strangely(company, entry)
    assert entry_of(session, strange).story.entry.transaction_id == strange


def post_strangely(company: Company, entry: Entry) -> UUID:
    """One more entry like this one, whose id does not follow from its transaction."""
    transaction = uuid4()
    new = NewEntry(
        customer_id=entry.customer_id, id=uuid4(), transaction_id=transaction, debit_account=entry.debit_account,
        credit_account=entry.credit_account, amount=entry.amount, effective_at=entry.effective_at, kind="usage",
        actor="test", digest=digest({}),
    )  # fmt: skip
    with Session(company.engine) as session, session.begin():
        post(session, [new], now=at("2025-06-04"))
    return transaction


@pytest.mark.parametrize("customer", ["acme", str(ACME)])
def test_every_balance_is_explained(company: Company, paid: Invoice, session: Session, customer: str) -> None:
    for account, amount in balances(session, customer_id=ACME).items():
        for found in (
            explain(session, what=f"{customer}:{account}"),
            explain(session, what=account, customer=customer),
        ):
            assert isinstance(found, BalanceExplained)
            assert (found.account, found.explanation.total) == (account, amount)


def test_a_customer_whose_id_has_colons_is_understood(company: Company, session: Session) -> None:
    company.customer("org:7:assets")
    company.use("org:7:assets", "2025-06-03", "3")
    found = explain(session, what="org:7:assets:assets:unbilled")
    assert isinstance(found, BalanceExplained)
    assert found.explanation.total == 3


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nonsense", "Give the id of an entry"),
        ("", "Give the id of an entry"),
        ("6d1d7c0e-8f5b-5e0e-9a56-2c1b7d2f4a10", "Give the id of an entry"),
        ("acme:assets:gold", "'assets:gold' is no account. The accounts are: assets:bank"),
        ("nobody:assets:unbilled", "no customer 'nobody'"),
        (str(ACME), f"{ACME}:ACCOUNT"),
    ],
)
def test_what_nobody_knows_is_refused_with_the_cure(company: Company, session: Session, what: str, said: str) -> None:
    company.customer("acme")
    with pytest.raises(UnknownSubject) as refused:
        explain(session, what=what)
    assert said in str(refused.value)


def test_an_id_in_two_customers_books_asks_whose(company: Company, machine: UUID, session: Session) -> None:
    company.customer("other")
    use_machine(company, "e1", "2025-06-03", "10", customer="other")
    with pytest.raises(AmbiguousSubject, match="--customer"):
        explain(session, what=str(machine))
    assert entry_of(session, machine, "other").story.entry.quantity == 10
    with pytest.raises(AmbiguousSubject, match="--customer"):
        explain(session, what=str(transaction_id("platform", "e1")))
    with pytest.raises(UnknownSubject, match="in the books of 'other'"):
        explain(session, what=str(uuid4()), customer="other")


def test_a_line_that_is_not_its_entries_is_no_explanation(
    company: Company, machine: UUID, session: Session, servers: Any, database_url: str
) -> None:
    company.close("2025-07-01")
    url = make_url(servers.admin_url).set(drivername="postgresql+psycopg", database=make_url(database_url).database)
    engine = create_engine(url)
    with engine.begin() as superuser:
        superuser.execute(text("SET session_replication_role = replica"))
        superuser.execute(text("UPDATE invoice_lines SET amount = amount + 1"))
    engine.dispose()
    view = company.invoice("acme", "2025-06")
    for what in (view.lines[0].id, view.invoice.id):
        with pytest.raises(LineDisagrees, match="billing ledger check"):
            explain(session, what=str(what))


def test_the_command_tells_it_to_somebody_who_has_never_seen_it(
    company: Company, machine: UUID, billing: Billing
) -> None:
    told = billing(str(machine))
    assert (told.exit_code, told.stderr) == (0, "")
    for part in (
        "acme (acme), customer",
        "0.00288 USD from income:usage to assets:unbilled",
        "3600 x 0.0000008 = 0.00288 USD",
        "0.0000008 USD per second, valid from 2025-01-01T00:00:00Z",
        "In time: the period",
        "app=web",
    ):
        assert part in told.output
    told = billing("acme:assets:unbilled")
    assert told.output.splitlines()[-1] == (
        "1 entry adds up to 0.00288 USD on assets:unbilled, as the running totals say."
    )
    unknown = billing("nonsense")
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert unknown.stderr.startswith("error [unknown_subject]: Nothing is named 'nonsense'.")
    customer = billing("acme")
    assert customer.exit_code == 2
    assert customer.stderr.endswith("ask for the period so far: billing explain --customer acme\n")


def test_the_command_pages_and_prints_json(company: Company, paid: Invoice, billing: Billing) -> None:
    for number in range(5):
        company.use("acme", f"2025-07-0{number + 1}", "1", event=str(number))
    told = billing("acme:income:usage", "--limit", "2", "--json")
    found = json.loads(told.output)
    assert (found["kind"], found["explanation"]["count"], found["explanation"]["total"]) == ("balance", 6, "30.001")
    assert [entry["amount"] for entry in found["explanation"]["entries"]] == ["25.001", "1"]
    after = str(found["explanation"]["next_after"])
    told = billing("acme:income:usage", "--limit", "9", "--after", after, "--json")
    found = json.loads(told.output)
    assert (len(found["explanation"]["entries"]), found["explanation"]["next_after"]) == (4, None)
    for what, kind in ((str(paid.number), "invoice"), (str(uuid4()), None), ("inpay_1", "entry")):
        told = billing(what, "--json")
        assert told.exit_code == (0 if kind else 2)
        assert kind is None or json.loads(told.output)["kind"] == kind
    text = billing(str(paid.number)).output
    for part in ("Charges of the period:", "Rounding to whole cents:", "due  ", "assets:stripe", "compiled  "):
        assert part in text
    line = company.invoice("acme", "2025-06").lines[0]
    assert str(line.id) in text
    assert json.loads(billing(str(line.id), "--json").output)["kind"] == "line"

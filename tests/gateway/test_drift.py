"""Differences made by hand at Stripe: each is found, named, and repaired or listed as a task, and only once.

All cases share one sandbox and one database, as they would share one account; each has customers of its own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.database import create_engine
from app.embedded.state import SANDBOX_KEY_PREFIX
from invoicing.customers import customer_id_for
from invoicing.movements.tables import Task
from invoicing.tables import Invoice
from ledger.accounts import SUSPENSE
from ledger.balances import balances
from ledger.books import house_id
from stripe_gateway.reconciliation import Asked, Difference
from stripe_gateway.reconciliation.kinds import KINDS, TASKS
from tests.gateway.conftest import Town, make_town, now
from tests.gateway.movement import check
from tests.processes.sandbox import SandboxProcess
from tests.processes.services import Databases

REPAIRED, TASK = "repaired", "task"


@dataclass
class Case:
    """One case's place in the town: customers with an invoice each, and whatever was meddled with."""

    town: Town
    name: str
    about: set[str] = field(default_factory=set)
    """Ids of objects that the case's differences may be about, besides its own customers'."""

    @property
    def v1(self) -> Any:
        """Stripe's API as somebody in the Dashboard uses it, behind our back."""
        return self.town.gateway.client._v1

    def open(self, suffix: str = "") -> Invoice:
        """An invoice over 12.34 that stands at Stripe, open."""
        invoice = self.town.invoice(self.name + suffix)
        self.town.sync()
        return invoice

    def paid(self, suffix: str = "", *, told: bool = True) -> Invoice:
        """One that was paid there by card; `told`: and that we know of."""
        invoice = self.town.invoice(self.name + suffix, card="pm_card_visa")
        self.town.sync()
        self.town.sandbox.advance(60)
        if told:
            self.run()
        return invoice

    def at_stripe(self, invoice: Invoice) -> str:
        return str(self.town.row(invoice).external_id)

    def customer(self, invoice: Invoice) -> str:
        return str(self.v1.invoices.retrieve(self.at_stripe(invoice))["customer"])

    def intent(self, invoice: Invoice) -> str:
        [payment] = self.town.gateway.client.list_invoice_payments(invoice=self.at_stripe(invoice))
        return str(payment["payment"]["payment_intent"])

    def charge(self, invoice: Invoice) -> str:
        return str(self.v1.payment_intents.retrieve(self.intent(invoice))["latest_charge"])

    def drift(self, external_id: str, **change: Any) -> None:
        """What cannot be done through the API: a change without a trace, or (lose=True) a loss."""
        body = change if "lose" in change else {"set": change}
        self.town.sandbox.post("drift", object=external_id, **body)

    def run(self, *, full: bool = False) -> list[Difference]:
        report = self.town.gateway.reconcile(now=now(), asked=Asked(is_full=full))
        return [one for one in report.differences if self._is_mine(one)]

    def _is_mine(self, one: Difference) -> bool:
        mine = {customer_id_for(name) for name in (self.name, f"{self.name}-2")}
        return one.customer_id in mine or one.external_id in self.about

    def tasks(self) -> set[str]:
        """The open tasks of this case, by kind of difference."""
        mine = {customer_id_for(name) for name in (self.name, f"{self.name}-2")}
        with Session(self.town.engine) as session:
            rows = session.scalars(select(Task).where(Task.resolved_at.is_(None), Task.kind.in_(TASKS)))
            return {
                row.kind for row in rows if row.customer_id in mine or row.subject.removeprefix("stripe:") in self.about
            }


@pytest.fixture(scope="module")
def place(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    name = databases.clone()
    engine = create_engine(databases.url(name))
    process = SandboxProcess(tmp_path_factory.mktemp("drift"), api_key=f"{SANDBOX_KEY_PREFIX}drift")
    try:
        yield make_town(engine, process.start())
    finally:
        process.kill9()
        engine.dispose()
        databases.drop(name)


def payment_lost(case: Case) -> None:
    case.paid(told=False)


def refunded_in_the_dashboard(case: Case) -> None:
    case.v1.refunds.create({"payment_intent": case.intent(case.paid()), "amount": 500})


def voided_in_the_dashboard(case: Case) -> None:
    case.v1.invoices.void_invoice(case.at_stripe(case.open()))


def given_up_in_the_dashboard(case: Case) -> None:
    case.v1.invoices.mark_uncollectible(case.at_stripe(case.open()))


def marked_paid_in_the_dashboard(case: Case) -> None:
    case.v1.invoices.pay(case.at_stripe(case.open()), {"paid_out_of_band": True})


def second_invoice(case: Case) -> None:
    invoice = case.open()
    first = case.v1.invoices.retrieve(case.at_stripe(invoice)).to_dict()
    copy = {"customer": first["customer"], "currency": "usd", "metadata": first["metadata"]}
    twin = case.v1.invoices.create(copy)["id"]
    case.v1.invoices.add_lines(twin, {"lines": [{"amount": 1234, "description": "Machine"}]})
    case.v1.invoices.finalize_invoice(twin)


def invoice_lost(case: Case) -> None:
    case.drift(case.at_stripe(case.open()), lose=True)


def amount_altered(case: Case) -> None:
    case.drift(case.at_stripe(case.open()), total=1200, amount_due=1200, amount_remaining=1200)


def number_altered(case: Case) -> None:
    case.drift(case.at_stripe(case.open()), number="ANOTHER-1")


def metadata_altered(case: Case) -> None:
    metadata = {"ledger_invoice_id": "", "ledger_customer_id": ""}
    case.v1.invoices.update(case.at_stripe(case.open()), {"metadata": metadata})


def customer_altered(case: Case) -> None:
    invoice = case.open()
    other = case.customer(case.open("-2"))
    case.drift(case.at_stripe(invoice), customer=other)


def credited_in_the_dashboard(case: Case) -> None:
    case.v1.credit_notes.create({"invoice": case.at_stripe(case.open()), "amount": 200})


def disputed(case: Case) -> None:
    case.town.sandbox.post("disputes", charge=case.charge(case.paid()))


def dispute_was_lost(case: Case) -> None:
    dispute = case.town.sandbox.post("disputes", charge=case.charge(case.paid()))
    case.run()
    case.town.sandbox.post(f"disputes/{dispute['id']}", status="lost")


def fee_came_later(case: Case) -> None:
    case.town.sandbox.set(settlement_delay_s=3600)
    try:
        case.paid()
    finally:
        case.town.sandbox.set(settlement_delay_s=0)
    case.town.sandbox.advance(3600)


def payout_arrived(case: Case) -> None:
    case.paid()
    case.town.sandbox.advance(3 * 86400)
    case.about.add(case.town.sandbox.post("payouts")["id"])


def payout_came_back(case: Case) -> None:
    payout_arrived(case)
    case.run()
    [payout] = case.about
    case.town.sandbox.post(f"payouts/{payout}/fail")


def charged_by_hand(case: Case) -> None:
    case.open()  # without a customer there is nothing to compare, whichever case comes first
    intent = case.v1.payment_intents.create(
        {"amount": 777, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
    )
    case.town.sandbox.advance(60)
    listed = case.v1.balance_transactions.list({"limit": 1, "source": intent["latest_charge"]})
    case.about.add(listed["data"][0]["id"])


def fee_of_stripes_own(case: Case) -> None:
    case.paid()
    case.town.sandbox.set(payout_fee_minor=5)
    try:
        case.town.sandbox.advance(3 * 86400)
        payout = case.town.sandbox.post("payouts")["id"]
    finally:
        case.town.sandbox.set(payout_fee_minor=0)
    for entry in case.v1.balance_transactions.list({"type": "stripe_fee"})["data"]:
        case.about.add(entry["id"])
    case.about.add(payout)


def balance_at_stripe(case: Case) -> None:
    case.v1.customers.update(case.customer(case.open()), {"balance": -300})


def customer_deleted(case: Case) -> None:
    case.v1.customers.delete(case.customer(case.open()))


def customer_renamed_to_another(case: Case) -> None:
    case.v1.customers.update(case.customer(case.open()), {"metadata": {"ledger_customer_id": str(UUID(int=1))}})


def draft_left_over(case: Case) -> None:
    first = case.v1.invoices.retrieve(case.at_stripe(case.open())).to_dict()
    case.v1.invoices.create({"customer": first["customer"], "currency": "usd", "metadata": first["metadata"]})


def refund_lost(case: Case) -> None:
    refund = case.v1.refunds.create({"payment_intent": case.intent(case.paid()), "amount": 500})["id"]
    case.run()
    case.drift(refund, lose=True)


def refund_failed(case: Case) -> None:
    refund = case.v1.refunds.create({"payment_intent": case.intent(case.paid()), "amount": 500})["id"]
    case.run()
    case.town.sandbox.post(f"refunds/{refund}/fail")


def payment_altered(case: Case) -> None:
    [payment] = case.town.gateway.client.list_invoice_payments(invoice=case.at_stripe(case.paid()))
    case.drift(payment["id"], amount_paid=1000)


def payment_lost_at_stripe(case: Case) -> None:
    [payment] = case.town.gateway.client.list_invoice_payments(invoice=case.at_stripe(case.paid()))
    case.drift(payment["id"], lose=True)


def movement_of_the_balance_altered(case: Case) -> None:
    invoice = case.paid(told=False)
    [moved] = case.v1.balance_transactions.list({"source": case.charge(invoice)})["data"]
    case.drift(moved["id"], amount=moved["amount"] + 66, net=moved["net"] + 66)


def invoiced_by_hand(case: Case) -> None:
    made = case.v1.invoices.create({"customer": case.customer(case.open()), "currency": "usd"})["id"]
    case.v1.invoices.add_lines(made, {"lines": [{"amount": 900, "description": "By hand"}]})
    case.v1.invoices.finalize_invoice(made)


CASES: dict[Callable[[Case], None], dict[str, str]] = {
    payment_lost: {"status_behind": REPAIRED, "payment_at_stripe_only": REPAIRED, "fee_not_booked": REPAIRED},
    refunded_in_the_dashboard: {"refund_at_stripe_only": REPAIRED},
    voided_in_the_dashboard: {"status_behind": REPAIRED, "void_at_stripe_only": TASK},
    given_up_in_the_dashboard: {"status_behind": REPAIRED, "uncollectible_at_stripe_only": TASK},
    marked_paid_in_the_dashboard: {"status_behind": REPAIRED, "paid_outside_at_stripe": TASK},
    second_invoice: {"duplicate_at_stripe": TASK},
    invoice_lost: {"missing_at_stripe": TASK},
    amount_altered: {"invoice_differs": TASK},
    number_altered: {"invoice_differs": TASK},
    metadata_altered: {"invoice_differs": TASK},
    customer_altered: {"invoice_differs": TASK},
    credited_in_the_dashboard: {"credit_note_at_stripe_only": TASK},
    disputed: {"dispute_at_stripe_only": REPAIRED},
    dispute_was_lost: {"dispute_behind": REPAIRED},
    fee_came_later: {"fee_not_booked": REPAIRED},
    payout_arrived: {"payout_at_stripe_only": REPAIRED, "payout_not_cleared": REPAIRED},
    payout_came_back: {"payout_behind": REPAIRED},
    charged_by_hand: {"unknown_money": TASK},
    fee_of_stripes_own: {
        "transaction_at_stripe_only": REPAIRED,
        "payout_at_stripe_only": REPAIRED,
        "payout_not_cleared": REPAIRED,
    },
    balance_at_stripe: {"customer_balance": TASK},
    customer_deleted: {"customer_deleted": TASK},
    customer_renamed_to_another: {"customer_differs": TASK},
    draft_left_over: {"orphan_draft": REPAIRED},
    refund_lost: {"refund_missing_at_stripe": TASK},
    refund_failed: {"refund_behind": REPAIRED},
    payment_altered: {"payment_differs": TASK},
    payment_lost_at_stripe: {"payment_here_only": TASK},
    movement_of_the_balance_altered: {
        "status_behind": REPAIRED,
        "payment_at_stripe_only": REPAIRED,
        "fee_not_booked": REPAIRED,
        "money_differs": TASK,
    },
    invoiced_by_hand: {"foreign_invoice": TASK},
}


@pytest.mark.parametrize("inject", list(CASES), ids=lambda inject: inject.__name__)
def test_a_difference_made_by_hand_is_found_named_and_settled_once(place: Town, inject: Callable[[Case], None]) -> None:
    expected = CASES[inject]
    case = Case(place, inject.__name__.replace("_", "-"))
    inject(case)
    found = case.run(full=True)
    assert {one.kind: one.outcome for one in found} == expected
    assert all(one.text and one.external_id for one in found)
    for_people = {kind for kind, outcome in expected.items() if outcome == TASK}
    assert case.tasks() == {KINDS[kind].task or f"drift:{kind}" for kind in for_people}
    again = case.run()
    assert {one.kind: one.outcome for one in again} == dict.fromkeys(for_people, TASK), "nothing new, nothing forgotten"
    check(place)


def test_what_differs_in_sum_is_said_to_the_cent(place: Town) -> None:
    case = Case(place, "sixty-six")
    movement_of_the_balance_altered(case)
    [found] = [one for one in case.run() if one.kind == "money_differs"]
    assert "11.68 USD stand in the books as held by Stripe; its own movements add up to 12.34 USD." in found.text
    assert found.text.endswith("The difference is -0.66 USD.")
    assert found.customer_id == customer_id_for("sixty-six")


def test_money_that_belongs_to_nobody_waits_in_suspense(place: Town) -> None:
    house = house_id(provider="stripe", account="stripe", currency="USD")

    def suspense() -> Decimal:
        with Session(place.engine) as session:
            return balances(session, customer_id=house).get(SUSPENSE, Decimal(0))

    before = suspense()
    case = Case(place, "donation")
    charged_by_hand(case)
    [found] = case.run()
    # 7.77 less 2.9 % and 0.30 of fees; the account of unknown money is an asset, so it stands there negative.
    assert suspense() - before == Decimal("-7.24")
    assert "7.24 USD" in found.text
    case.run(full=True)
    assert suspense() - before == Decimal("-7.24"), "booked once"


def test_every_cent_at_stripe_stands_in_the_books(town: Town) -> None:
    """Over payments, fees, refunds, unknown money and a payout: what all books hold there is the account's balance."""
    case = Case(town, "identity")
    case.paid(told=False)
    case.v1.refunds.create({"payment_intent": case.intent(case.paid("-2", told=False)), "amount": 100})
    charged_by_hand(case)
    town.sandbox.advance(3 * 86400)
    town.sandbox.post("payouts")
    case.paid("-3", told=False)
    report = town.gateway.reconcile(now=now())
    assert {one.kind for one in report.unexplained} == {"unknown_money"}
    query = text(
        "SELECT sum(CASE WHEN debit_account = 'assets:stripe' THEN amount ELSE 0 END"
        " - CASE WHEN credit_account = 'assets:stripe' THEN amount ELSE 0 END) FROM ledger_entries"
    )
    with Session(town.engine) as session:
        held = session.scalar(query)
    page = town.gateway.client.page("balance_transactions", after=None)
    assert page.after is None
    assert held == Decimal(sum(one["net"] for one in page.data)) / 100 == Decimal("11.68")
    check(town)

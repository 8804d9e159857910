"""When news of Stripe is lost, for hours or for weeks, or our own memory is: one comparison sets the books right.

Each story is lived through with every webhook, and with few or none; in the end every account of every customer and of
the house holds the same, to the cent.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.database import create_engine as create_app_engine
from app.embedded.state import SANDBOX_KEY_PREFIX
from invoicing.customers import customer_id_for
from tests.gateway.conftest import Town, make_town, now
from tests.gateway.movement import balances, check
from tests.processes.sandbox import SandboxProcess
from tests.processes.services import Databases
from tests.sandbox.receiver import Receiver

DAY = 86400
NAMES = ("refunded", "disputed", "won", "declined", "plain", "partly")


class Life:
    """Forty-five days at Stripe. Nothing is done by us but to send the invoices on the first of them."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.v1: Any = town.gateway.client._v1
        self.sim = town.sandbox

    def live(self, *, each_day: Any = None) -> None:
        for number, name in enumerate(NAMES):
            card = "pm_card_chargeCustomerFail" if name == "declined" else "pm_card_visa"
            self.town.invoice(name, "300.50" if name == "declined" else f"{20 + number}.07", card=card)
        self.town.sync()
        days = {
            2: self.pay_out,
            9: self.give_back,
            12: self.dispute,
            20: self.pay_late,
            30: self.decide,
            40: self.pay_out,
        }
        for day in range(45):
            days.get(day, lambda: None)()
            self.sim.advance(DAY)
            if each_day is not None:
                each_day()

    def pay_out(self) -> None:
        self.sim.post("payouts")

    def give_back(self) -> None:
        self.v1.refunds.create({"payment_intent": self._intent("refunded")})
        self.v1.refunds.create({"payment_intent": self._intent("partly"), "amount": 701})
        failing = self.v1.refunds.create({"payment_intent": self._intent("plain"), "amount": 300})
        self.sim.post(f"refunds/{failing['id']}/fail")

    def dispute(self) -> None:
        for name in ("disputed", "won"):
            charge = self.v1.payment_intents.retrieve(self._intent(name))["latest_charge"]
            self.sim.post("disputes", charge=charge)

    def pay_late(self) -> None:
        self.v1.invoices.pay(self._invoice("declined"), {"payment_method": "pm_card_visa"})

    def decide(self) -> None:
        for dispute in self.v1.disputes.list()["data"]:
            charge = self.v1.payment_intents.retrieve(self._intent("won"))["latest_charge"]
            self.sim.post(f"disputes/{dispute['id']}", status="won" if dispute["charge"] == charge else "lost")

    def _invoice(self, name: str) -> str:
        return str(self.town.row(self.town.company.invoice(name, "2025-06").invoice).external_id)

    def _intent(self, name: str) -> str:
        payments = self.town.gateway.client.list_invoice_payments(invoice=self._invoice(name))
        return next(str(one["payment"]["payment_intent"]) for one in payments if one["status"] == "paid")


def states(town: Town) -> list[tuple[Any, ...]]:
    """Invoices, refunds and disputes as far as they are not named by Stripe's random ids."""
    with Session(town.engine) as session:
        invoices = session.execute(
            text("SELECT number, state, amount_paid, amount_credited FROM invoices ORDER BY number")
        ).all()
        refunds = session.execute(text("SELECT customer_id, amount, state FROM refunds ORDER BY 1, 2, 3")).all()
        disputes = session.execute(
            text("SELECT customer_id, status, withdrawn, reinstated, fees FROM disputes ORDER BY 1")
        ).all()
    return [tuple(row) for row in (*invoices, *refunds, *disputes)]


@pytest.fixture
def towns(databases: Databases, tmp_path: Path) -> Iterator[Any]:
    """Makes towns beside each other, each with a database and a sandbox of its own."""
    made: list[tuple[str, Engine, SandboxProcess, Receiver]] = []

    def make(name: str) -> Town:
        folder = tmp_path / name
        folder.mkdir()
        database, receiver = databases.clone(), Receiver()
        engine = create_app_engine(databases.url(database))
        process = SandboxProcess(folder, api_key=f"{SANDBOX_KEY_PREFIX}{name}")
        made.append((database, engine, process, receiver))
        town = make_town(engine, process.start(webhook_url=receiver.url))
        town.receiver = receiver
        return town

    yield make
    for database, engine, process, receiver in made:
        process.kill9()
        receiver.close()
        engine.dispose()
        databases.drop(database)


def listen(town: Town) -> None:
    """Take in whatever Stripe has delivered, and handle it."""
    town.settle()
    town.deliver(town.fetch())
    town.handle(tries=2)


@pytest.mark.parametrize("lost", [0.3, 1.0])
def test_forty_five_days_of_lost_webhooks_are_made_good_by_one_run(towns: Any, lost: float) -> None:
    told, deaf = towns("told"), towns("deaf")
    Life(told).live()
    listen(told)
    deaf.sandbox.webhook_mode(drop_probability=lost, seed=11)
    Life(deaf).live()
    listen(deaf)
    assert len(deaf.events()) < len(told.events())
    if lost == 1.0:
        assert deaf.books()["cash entries"] == 0

    report = deaf.gateway.reconcile(now=now())
    assert report.unexplained == []
    assert report.repaired or lost < 1.0, "an event reads its object, so a later one may have told of a lost one"
    assert balances(deaf) == balances(told)
    assert states(deaf) == states(told)
    check(deaf)
    assert deaf.gateway.reconcile(now=now()).differences == []
    # Whoever heard everything agrees with Stripe as well, and has nothing to repair.
    report = told.gateway.reconcile(now=now())
    assert [(one.kind, one.text) for one in report.differences if one.kind != "payout_not_cleared"] == []
    assert balances(deaf) == balances(told)


def test_a_database_that_was_restored_to_an_earlier_hour_learns_it_again(
    databases: Databases, database_url: str, hooked: Town
) -> None:
    """An hour is lost: a sync, payments, a refund, a dispute. Nobody is charged twice, and every cent is back."""
    early, late = hooked.invoice("early", card="pm_card_visa"), None
    hooked.sync()
    listen(hooked)
    hooked.invoice("refunded", "20.07", card="pm_card_visa")
    late = hooked.invoice("late", "31.00", card="pm_card_visa")
    hooked.gateway.reconcile(now=now())
    name = database_url.rpartition("/")[2]
    hooked.engine.dispose()
    backup = databases.backup(name)

    # The hour that will be lost.
    hooked.sync()
    listen(hooked)
    v1: Any = hooked.gateway.client._v1
    life = Life(hooked)
    v1.refunds.create({"payment_intent": life._intent("refunded"), "amount": 500})
    charge = v1.payment_intents.retrieve(life._intent("early"))["latest_charge"]
    dispute = hooked.sandbox.post("disputes", charge=charge)
    hooked.sandbox.post(f"disputes/{dispute['id']}", status="lost")
    listen(hooked)
    lost, lost_states = balances(hooked), states(hooked)
    charges = len(v1.charges.list({"limit": 100})["data"])

    engine = create_app_engine(databases.url(backup))
    try:
        restored = make_town(engine, hooked.sandbox)
        assert balances(restored) != lost
        restored.sync()
        report = restored.gateway.reconcile(now=now())
        assert report.unexplained == []
        assert balances(restored) == lost
        assert states(restored) == lost_states
        restored.assert_each_stands_once()
        assert len(v1.charges.list({"limit": 100})["data"]) == charges, "nobody was charged again"
        assert restored.row(early).external_id == hooked.row(early).external_id
        assert restored.row(late).external_id == hooked.row(late).external_id
        check(restored)
        assert restored.gateway.reconcile(now=now()).differences == []
    finally:
        engine.dispose()
        databases.drop(backup)


def test_a_restore_to_before_the_closing_charges_nobody_twice(
    databases: Databases, database_url: str, town: Town
) -> None:
    """The invoice itself is forgotten, and made again under another id: Stripe refuses its number, people are told."""
    town.company.customer("acme")
    town.gateway.set_payment_method(customer_id=customer_id_for("acme"), payment_method="pm_card_visa", now=now())
    town.company.use("acme", "2025-06-03", "12.34")
    town.engine.dispose()
    backup = databases.backup(database_url.rpartition("/")[2])
    town.company.close("2025-07-02")
    town.company.finalize_due("2025-07-10")
    town.sync()
    town.sandbox.advance(60)
    v1: Any = town.gateway.client._v1
    assert len(v1.charges.list()["data"]) == 1

    engine = create_app_engine(databases.url(backup))
    try:
        restored = make_town(engine, town.sandbox)
        report = restored.gateway.reconcile(now=now())
        assert {one.kind for one in report.unexplained} == {"unknown_invoice", "unknown_money"}
        restored.company.close("2025-07-02")
        restored.company.finalize_due("2025-07-10")
        restored.sync()
        town.sandbox.advance(60)
        row = restored.row(restored.company.invoice("acme", "2025-06").invoice)
        assert (row.state, "already in use" in (row.last_error or "")) == ("parked", True)
        assert len(v1.charges.list()["data"]) == 1, "nobody was charged again"
        assert {one.kind for one in restored.gateway.reconcile(now=now()).unexplained} >= {"unknown_money"}
        check(restored)
    finally:
        engine.dispose()
        databases.drop(backup)

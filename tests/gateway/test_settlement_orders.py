"""Settled in another currency: whoever tells of it, in whatever order, how often, and whoever dies meanwhile."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session

from stripe_gateway.gateway import StripeGateway
from stripe_gateway.house import house_of
from stripe_gateway.payouts import clear, record
from tests.gateway import movement as do
from tests.gateway.conftest import Town, now, settings_for, shuffled
from tests.gateway.news import heard, take
from tests.gateway.settlement import Books, D, dispute, paid_out, reconciled, worth
from tests.gateway.test_story_orders import live
from tests.processes.forks import FORKS
from tests.processes.sandbox import SandboxProcess

HELD_S = 120.0
"""Longer than anybody waits for an answer: whoever asks stands there until killed."""


def lived(town: Town) -> None:
    """Four customers: one pays, one gets a part back, one loses a dispute, one wins it; then all is paid out."""
    invoices = [town.invoice(f"customer-{number}", "100", card="pm_card_visa") for number in range(4)]
    town.sync()
    town.sandbox.advance(0)
    worth(town, "0.95")
    charge = do.charge_of(town, invoices[1])
    town.gateway.client.create_refund({"charge": charge, "amount": 1234}, key="dashboard")
    lost, won = dispute(town, invoices[2], 2000), dispute(town, invoices[3])
    worth(town, "0.88")
    town.sandbox.post(f"disputes/{lost}", status="lost")
    town.sandbox.post(f"disputes/{won}", status="won")
    paid_out(town)


LIVED: dict[str, Books] = {
    "customer customer-0": {"assets:house": D(100), "income:usage": D(-100)},
    "customer customer-1": {"assets:house": D("87.66"), "income:adjustments": D("12.34"), "income:usage": D(-100)},
    "customer customer-2": {"assets:house": D(80), "expenses:chargebacks": D(20), "income:usage": D(-100)},
    "customer customer-3": {"assets:house": D(100), "income:usage": D(-100)},
    "house USD": {"income:exchange": D("367.66"), "assets:customers": D("-367.66")},
    # 4 x 92, less 12.34, 20 and 100 at 0.95, and 100 came back at 0.88.
    "house EUR": {
        "assets:bank": D("288.40"),
        "expenses:provider_fees": D("41.88"),
        "income:exchange": D(-368) + D("11.72") + 19 + 95 - 88,
    },
}


def test_a_reconciliation_that_alone_tells_of_everything_ends_with_the_same_books(town: Town) -> None:
    worth(town, "0.92")
    lived(town)
    report = town.gateway.reconcile(now=now())
    assert report.unexplained == [], report.unexplained
    assert do.balances(town) == LIVED
    assert reconciled(town) == []


def test_a_payout_that_alone_tells_of_fees_refunds_and_disputes_ends_with_the_same_books(abroad: Town) -> None:
    lived(abroad)
    take(abroad, heard(abroad, "invoice_payment.paid", "payout.paid", "payout.reconciliation_completed"))
    assert do.balances(abroad) == LIVED
    assert "fee_not_booked" not in reconciled(abroad)
    assert do.balances(abroad) == LIVED


def test_events_told_twice_in_any_disorder_and_in_pieces_end_with_the_same_books(abroad: Town) -> None:
    lived(abroad)
    abroad.settle()
    heap = shuffled(abroad.fetch(), times=2, seed=8)
    for first in range(0, len(heap), 7):
        abroad.deliver(heap[first : first + 7])
        abroad.handle(tries=2)
    assert not abroad.events("parked")
    assert do.balances(abroad) == LIVED
    assert reconciled(abroad) == []


ORDERS = list(itertools.permutations(range(4)))
REFUNDED = ("invoice_payment.paid", "charge.updated", "refund.created", "refund.failed")
DISPUTED = ("invoice_payment.paid", "charge.updated", "charge.dispute.funds_withdrawn", "charge.dispute.closed")


def _refund_fails(town: Town, charge: dict[str, Any], _invoice: str) -> None:
    worth(town, "0.95")
    made = town.gateway.client.create_refund({"charge": charge["id"], "amount": 300}, key=f"hand {charge['id']}")
    worth(town, "0.90")
    town.sandbox.post(f"refunds/{made['id']}/fail")


def _dispute_is_lost(town: Town, charge: dict[str, Any], _invoice: str) -> None:
    worth(town, "0.95")
    given = town.sandbox.post("disputes", charge=charge["id"], amount=700)
    town.sandbox.post(f"disputes/{given['id']}", status="lost")


@pytest.mark.parametrize(
    ("kinds", "story", "exchanged"),
    # 12.34 are 11.35 EUR; 3.00 went as 2.85 and came back as 2.70; 7.00 went as 6.65.
    [(REFUNDED, _refund_fails, D("11.20")), (DISPUTED, _dispute_is_lost, D("4.70"))],
    ids=["a refund that fails", "a dispute that is lost"],
)
def test_every_order_of_the_events_gives_the_same_books(
    abroad: Town, kinds: tuple[str, ...], story: Callable[[Town, dict[str, Any], str], None], exchanged: D
) -> None:
    told = live(abroad, len(ORDERS), (kinds, story))
    for place in range(4):
        abroad.deliver([events[order[place]] for events, order in zip(told, ORDERS, strict=True)])
        abroad.handle(tries=1)
    abroad.handle(tries=2)
    assert not abroad.events("parked")
    first = do.balances(abroad)
    customers = {repr(sorted(found.items())) for name, found in first.items() if name.startswith("customer ")}
    assert len(customers) == 1, customers
    assert -first["house EUR"]["income:exchange"] == exchanged * len(ORDERS)
    abroad.deliver(shuffled([one for events in told for one in events], times=2, seed=4))
    abroad.handle()
    reconciled(abroad)  # what the other events would have told, which is no money
    assert do.balances(abroad) == first


# Dying between two steps


def handle_until_killed(database_url: str, sandbox: SandboxProcess) -> None:
    """What a worker does with the events that are due, in a process of its own."""
    from app.database import create_engine

    engine = create_engine(database_url)
    StripeGateway(engine, settings_for(sandbox)).handle_due(now=now())
    engine.dispose()


ASKED = ("balance_transactions.*", "refunds.retrieve", "disputes.retrieve")
"""What a worker asks of Stripe between two movements that it books."""


@pytest.mark.parametrize(("endpoint", "skip"), [(ASKED[0], 2), (ASKED[1], 0), (ASKED[2], 1)])
def test_a_worker_killed_between_two_movements_leaves_the_rest_to_the_next(
    abroad: Town, database_url: str, endpoint: str, skip: int
) -> None:
    assert _kill_between(abroad, database_url, endpoint, skip), f"it ended before it asked for {endpoint}"


@pytest.mark.soak
@pytest.mark.parametrize(("endpoint", "skip"), list(itertools.product(ASKED, range(8))))
def test_a_worker_killed_anywhere_between_movements_leaves_the_rest_to_the_next(
    abroad: Town, database_url: str, endpoint: str, skip: int
) -> None:
    _kill_between(abroad, database_url, endpoint, skip)


def _kill_between(abroad: Town, database_url: str, endpoint: str, skip: int) -> bool:
    """Kill a worker as it asks this for the time after `skip`; False if it never asked so often."""
    lived(abroad)
    abroad.settle()
    abroad.deliver(shuffled(abroad.fetch(), times=1, seed=skip))
    abroad.sandbox.fault(endpoint, "delay_before", count=None, skip=skip, delay_s=HELD_S)
    handle = SandboxProcess(abroad.sandbox.folder, api_key=abroad.sandbox.api_key)
    handle._port = abroad.sandbox._port
    process = FORKS.Process(target=handle_until_killed, args=(database_url, handle))
    process.start()
    while process.is_alive() and not any(one["hits"] for one in abroad.sandbox.get("faults")["faults"]):
        process.join(0.02)
    was_killed = process.is_alive()
    process.kill()
    process.join()
    abroad.sandbox.clear_faults()
    abroad.outlive_leases()
    abroad.handle()
    assert do.balances(abroad) == LIVED
    assert reconciled(abroad) == []
    return was_killed


class Died(BaseException):
    """The process is gone."""


def test_a_payout_whose_clearing_died_after_every_movement_goes_on_where_it_was(abroad: Town) -> None:
    lived(abroad)
    payout = abroad.gateway.client.page("payouts", after=None).data[0]
    take(abroad, heard(abroad, "invoice_payment.paid"))
    with Session(abroad.engine) as session, session.begin():
        record(session, payout, house=house_of(abroad.gateway.client), cause="test", now=now())

    def die() -> None:
        raise Died

    deaths = 0
    while True:
        try:
            clear(abroad.engine, abroad.gateway.client, payout, cause="test", now=now(), renew=die)
            break
        except Died:
            deaths += 1
    assert deaths == 8, "one for each movement: four payments, a refund, two withdrawals and one that came back"
    assert do.balances(abroad) == LIVED

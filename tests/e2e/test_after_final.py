"""Life after an invoice is final, end to end: a refund by the API, a lost dispute, a payout, every cent explained."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import requests
from sqlalchemy import Engine, text

from tests.e2e.conftest import House, wait_for

SECONDS_OF_JUNE = 30 * 86_400
PER_SECOND = Decimal("0.0000120")
REFUNDED = Decimal("20.00")
DISPUTE_FEE = Decimal("15.00")
AVAILABLE_AFTER_S = 2 * 86_400 + 60
"""Charges are paid out when two days have passed. Source: https://docs.stripe.com/payouts#payout-speed"""


@dataclass(frozen=True)
class Platform:
    """The program that sends usage and asks for refunds."""

    house: House
    token: str

    def ask(self, method: str, path: str, **body: Any) -> Any:
        answer = requests.request(
            method, f"{self.house.url}/api/v1{path}", json=body or None,
            headers={"Authorization": f"Bearer {self.token}"}, timeout=60,
        )  # fmt: skip
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()


def value(engine: Engine, sql: str, **given: Any) -> Any:
    with engine.connect() as connection:
        return connection.scalar(text(sql), given)


def balances(engine: Engine, *, holder: str) -> dict[str, Decimal]:
    """What stands on each account of the customers' or of the house's books, where it is not 0."""
    with engine.connect() as connection:
        rows = connection.execute(
            text("""
            SELECT account, sum(amount) AS total FROM (
                SELECT customer_id, debit_account AS account, amount FROM ledger_entries
                UNION ALL SELECT customer_id, credit_account, -amount FROM ledger_entries) x
            JOIN ledger_books USING (customer_id) WHERE holder = :holder GROUP BY account HAVING sum(amount) <> 0"""),
            {"holder": holder},
        )
        return {row.account: row.total for row in rows}


def bill(house: House, machines: dict[str, int]) -> Platform:
    """Customers with so many machines through June, up to their final invoices."""
    house.environment["BILLING_CRON_SWEEP"] = "1s"
    house.run("prices", "seed")
    for name in machines:
        house.run("customers", "create", name, "--name", name, "--currency", "USD", "--draft-window-hours", "0")
    house.start_web()
    platform = Platform(house, house.run("tokens", "create", "platform").strip())
    events = [
        {
            "id": f"{name}:{number}",
            "customer": name,
            "item": "machine:dedicated-cpu-1x:2gb",
            "quantity": str(SECONDS_OF_JUNE),
            "at": "2025-06-11T12:00:00Z",
            "labels": {"app": "web", "machine": f"m{number}"},
        }
        for name, count in machines.items()
        for number in range(count)
    ]
    assert platform.ask("POST", "/usage", events=events)["posted"] == len(events)
    house.run("cycle", "close", "--as-of", "2025-07-02T00:00:00Z")
    house.run("invoices", "finalize", "--due", "--as-of", "2025-07-03T00:00:00Z")
    house.start("worker")
    house.start("cron")
    return platform


def test_a_refund_a_lost_dispute_and_a_payout_leave_no_cent_unexplained(house: House, engine: Engine) -> None:
    platform = bill(house, {"org-refunded": 3, "org-disputed": 1})
    stripe = requests.Session()
    stripe.auth = (house.environment["STRIPE_API_KEY"], "")

    def at_stripe(kind: str) -> list[Any]:
        found: list[Any] = stripe.get(f"{house.sandbox.url}/v1/{kind}", params={"limit": "100"}, timeout=30).json()[
            "data"
        ]
        return found

    # Both are paid on the hosted page; webhooks book it.
    wait_for(
        lambda: [i["status"] for i in at_stripe("invoices")] == ["open"] * 2, what="two open invoices", within_s=60
    )
    for invoice in at_stripe("invoices"):
        house.sandbox.post(f"invoices/{invoice['id']}/pay")
    wait_for(
        lambda: value(engine, "SELECT count(*) = 2 FROM invoices WHERE state = 'paid'"), what="both paid", within_s=60
    )

    # The platform gives a part back.
    refunded = find(engine, "org-refunded")
    assert refunded.total == round(3 * SECONDS_OF_JUNE * PER_SECOND, 2)
    path = f"/customers/{refunded.customer_id}/invoices/{refunded.invoice_id}/movements"
    wish = {
        "id": "6c2b5a0e-8d63-4f4e-9a55-0d0c8f6f3c11",
        "kind": "credit_note",
        "amount": str(REFUNDED),
        "options": {"paid_part": "refund"},
        "reason": "A region was away for a day.",
    }
    assert platform.ask("POST", path, **wish)["state"] == "working"
    wait_for(
        lambda: [m["state"] for m in platform.ask("GET", path)["movements"]] == ["done"], what="the note", within_s=60
    )
    wait_for(
        lambda: value(engine, "SELECT state = 'succeeded' FROM refunds"), what="the refund has arrived", within_s=60
    )
    assert platform.ask("POST", path, **wish)["state"] == "done", "the same again is the same movement"
    assert [Decimal(refund["amount"]) / 100 for refund in at_stripe("refunds")] == [REFUNDED]

    # The other one's bank takes the payment back, for good.
    disputed = find(engine, "org-disputed")
    (charge,) = [c["id"] for c in at_stripe("charges") if Decimal(c["amount"]) / 100 == disputed.total]
    dispute = house.sandbox.post("disputes", charge=charge)
    wait_for(lambda: value(engine, "SELECT status = 'needs_response' FROM disputes"), what="the dispute", within_s=60)
    house.sandbox.post(f"disputes/{dispute['id']}", status="lost")
    wait_for(lambda: value(engine, "SELECT status = 'lost' FROM disputes"), what="the loss", within_s=60)

    # What is left is paid out.
    house.sandbox.advance(AVAILABLE_AFTER_S)
    payout = Decimal(house.sandbox.post("payouts")["amount"]) / 100
    wait_for(
        lambda: value(engine, "SELECT reconciled_at IS NOT NULL FROM payouts"), what="the payout's parts", within_s=60
    )

    report = house.run_json("stripe", "reconcile")
    assert (report["unexplained"], report["repaired"], report["payouts"]) == (0, 0, 1)
    house.run("ledger", "check")
    ours, theirs = balances(engine, holder="house"), balances(engine, holder="customer")
    assert "assets:stripe" not in theirs, "nothing of the customers' money is still at Stripe"
    assert "assets:stripe" not in ours
    assert "assets:suspense" not in ours
    assert "assets:receivable" not in theirs
    assert "assets:disputed" not in theirs
    assert ours["assets:bank"] == payout
    assert theirs["assets:house"] == payout == -ours["assets:customers"]
    assert theirs["expenses:chargebacks"] == disputed.total
    assert theirs["expenses:dispute_fees"] == DISPUTE_FEE
    assert theirs["expenses:payment_fees"] == refunded.total - REFUNDED - DISPUTE_FEE - payout
    assert theirs["income:adjustments"] == REFUNDED


@dataclass(frozen=True)
class Final:
    """A customer's one invoice."""

    customer_id: UUID
    invoice_id: UUID
    total: Decimal


def find(engine: Engine, external_id: str) -> Final:
    with engine.connect() as connection:
        row = connection.execute(
            text(
                "SELECT customer_id, id, total FROM invoices JOIN customers USING (customer_id) WHERE external_id = :e"
            ),
            {"e": external_id},
        ).one()
    return Final(*row)

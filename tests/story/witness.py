"""Who sees all that happens at Stripe, whatever the product hears of it, and tells it to the model."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.story.model import Bill, House, Paper

Json = dict[str, Any]
HOUSE = "house"
DISPUTE_FEE = Decimal(15)


def money(minor: int) -> Decimal:
    return Decimal(minor) / 100


class Witness:
    """Reads each of Stripe's events once, in the order in which they happened there."""

    def __init__(self, papers: dict[str, Paper], house: House, bill_of: Callable[[str], tuple[str, str]]) -> None:
        self.papers, self.house = papers, house
        self._bill_of = bill_of
        self.standing: dict[tuple[str, str], Json] = {}
        """Stripe's finalized invoice of each bill, as it is there."""
        self.customers: dict[str, str] = {}
        self.charges: dict[str, str] = {}
        """The charge behind each invoice payment."""
        self.disputes: dict[str, tuple[str, str, str]] = {}
        self.refunds: dict[str, tuple[str, str, str, Decimal, str]] = {}
        """Each refund: customer, bill, payment, amount, status."""
        self.noted: dict[str, Decimal] = {}
        """Of each refund made in the Dashboard, what went beyond the customer's unused money: the credit note's."""
        self.failed_by_hand: dict[str, tuple[str, str]] = {}
        """Those that failed: customer and bill."""
        self.ours: set[str] = set()
        """Our ids of the refunds that stand at Stripe."""
        self._payments: dict[str, tuple[str, str, str]] = {}  # by payment intent
        self._intents: dict[str, str] = {}  # by charge

    def take(self, event: Json) -> tuple[str, str] | None:
        """Whom the event is about, and what it says in words of ours; None if it is nobody's."""
        kind, thing = event["type"], event["data"]["object"]
        family = kind.rpartition(".")[0]
        read = {
            "invoice": self._invoice,
            "invoice_payment": self._payment,
            "charge": self._charge,
            "refund": self._refund,
            "credit_note": self._credit_note,
            "charge.dispute": self._dispute,
            "payout": self._payout,
            "customer": self._customer,
        }.get(family)
        return None if read is None else read(kind, thing)

    def bill(self, name: str, bill: str) -> Bill:
        return self.papers[name].bills[bill]

    def _customer(self, kind: str, thing: Json) -> tuple[str, str] | None:
        named = thing["metadata"].get("ledger_customer_id")
        if named is None:
            return None
        name = self._bill_of(named)[0]
        self.customers[name] = thing["id"]
        return name, kind

    def _invoice(self, kind: str, thing: Json) -> tuple[str, str] | None:
        named = (thing.get("metadata") or {}).get("ledger_invoice_id")
        if named is None:
            return None
        name, bill = self._bill_of(named)
        self.customers[name] = thing["customer"]
        if thing["status"] != "draft":
            self.standing[name, bill] = thing
        return name, f"{bill} {kind} {thing['status']}"

    def _payment(self, kind: str, thing: Json) -> tuple[str, str] | None:
        found = next((key for key, one in self.standing.items() if one["id"] == thing["invoice"]), None)
        if kind != "invoice_payment.paid" or found is None or "payment_intent" not in thing["payment"]:
            return None
        name, bill = found
        amount = money(thing["amount_paid"])
        self.papers[name].paid(self.bill(name, bill), thing["id"], amount)
        self._payments[thing["payment"]["payment_intent"]] = (name, bill, thing["id"])
        for charge, intent in self._intents.items():
            if intent == thing["payment"]["payment_intent"]:
                self.charges[thing["id"]] = charge
        return name, f"{bill} paid {amount}"

    def _charge(self, kind: str, thing: Json) -> tuple[str, str] | None:
        self._intents[thing["id"]] = thing["payment_intent"]
        found = self._payments.get(thing["payment_intent"])
        if found is None:
            return None
        name, bill, payment = found
        if kind == "charge.updated" and thing["balance_transaction"]:
            self.papers[name].fee(self.bill(name, bill).payments[payment])
            return name, f"{bill} fee of {money(thing['amount'])}"
        return None

    def _refund(self, kind: str, thing: Json) -> tuple[str, str] | None:
        found = self._payments.get(thing["payment_intent"])
        if found is None:
            return None
        name, bill, payment = found
        paper, sheet, amount = self.papers[name], self.bill(name, bill), money(thing["amount"])
        ours = thing["metadata"].get("ledger_refund_id")
        known = self.refunds.get(thing["id"])
        before = known[4] if known else None
        if ours:
            self.ours.add(ours)
        elif known is None:
            self.noted[thing["id"]] = paper.sent_back_by_hand(sheet, payment, amount)
        status = thing["status"]
        if status == "succeeded" and before in (None, "pending", "requires_action"):
            paper.refunded(sheet, payment, amount)
        elif status in ("failed", "canceled") and before not in ("failed", "canceled"):
            paper.refund_ended(sheet, payment, amount, had_left=before == "succeeded")
            beyond = self.noted.pop(thing["id"], Decimal(0))
            paper.never_sent_back(sheet, beyond)
            if beyond:
                self.failed_by_hand[thing["id"]] = (name, bill)
        self.refunds[thing["id"]] = (name, bill, payment, amount, status)
        return name, f"{bill} refund {amount} {status}{'' if ours else ' by hand'}"

    def _credit_note(self, kind: str, thing: Json) -> tuple[str, str] | None:
        found = next((key for key, one in self.standing.items() if one["id"] == thing["invoice"]), None)
        return None if found is None else (found[0], f"{found[1]} {kind} {money(thing['amount'])}")

    def _dispute(self, kind: str, thing: Json) -> tuple[str, str] | None:
        found = self._payments.get(thing["payment_intent"])
        if found is None:
            return None
        name, bill, payment = found
        paper, sheet = self.papers[name], self.bill(name, bill)
        moved = thing["balance_transactions"]
        withdrawn = -sum((money(one["amount"]) for one in moved if one["amount"] < 0), Decimal(0))
        reinstated = sum((money(one["amount"]) for one in moved if one["amount"] > 0), Decimal(0))
        fees = DISPUTE_FEE * sum(1 for one in moved if one["amount"] < 0)
        if fees != sum((money(one["fee"]) for one in moved), Decimal(0)):
            raise AssertionError(f"Stripe took other fees for a dispute: {moved}")
        paper.disputed(sheet, thing["id"], payment, money(thing["amount"]), thing["status"])
        paper.dispute_money(sheet, thing["id"], withdrawn, fees, reinstated)
        self.disputes[thing["id"]] = (name, bill, thing["status"])
        return name, f"{bill} {kind} {money(thing['amount'])} {thing['status']}"

    def _payout(self, kind: str, thing: Json) -> tuple[str, str]:
        self.house.payouts[thing["id"]] = (money(thing["amount"]), thing["status"])
        return HOUSE, f"{kind} {money(thing['amount'])} {thing['status']}"

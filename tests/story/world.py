"""What customers and banks do in a story, and hands in Stripe's Dashboard: drawn here, and done at the sandbox."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tests.story.model import Bill
from tests.story.witness import HOUSE

if TYPE_CHECKING:
    from tests.story.teller import Teller

D = Decimal
BY_HAND = ("mark_uncollectible", "pay", "void")


class World:
    """The acts of one story's customers and banks, and of hands in the Dashboard."""

    def __init__(self, teller: "Teller") -> None:
        self.teller = teller
        self.stage = teller.stage
        self.chance = teller.chance
        self.expected_parked: set[str] = set()
        self._used = 0
        self._corrections: dict[tuple[str, str], list[tuple[UUID, Decimal]]] = {}
        self._endings: dict[UUID, tuple[str, str, str, str]] = {}
        """Voids and write-offs that the product has not ended: customer, bill, kind, then."""
        self._by_hand: set[tuple[str, str]] = set()
        """Bills that somebody changed in the Dashboard, or of which Stripe refused something."""
        self._lost_refunds: set[UUID] = set()

    def _draw(self, amount: Decimal) -> Decimal:
        """Some of it, sometimes more than all."""
        share = self.chance.choice(["0.1", "0.33", "0.5", "1", "1", "1", "1.2"])
        return max(D("0.01"), (amount * D(share)).quantize(D("0.01")))

    def _id(self) -> UUID:
        return UUID(int=self.chance.getrandbits(128), version=4)

    def _period(self) -> int:
        return self.teller.now.year * 12 + self.teller.now.month - 1

    def _bills(self, name: str, *states: str) -> list[Bill]:
        return [bill for bill in self.teller.papers[name].bills.values() if bill.state in states]

    def of_the_world(self) -> None:
        self.teller._collect()
        for name in self.teller.names:
            if self.chance.random() < 0.15:
                self._use(name)
        for name, bill in list(self.teller.witness.standing):
            if self.chance.random() < 0.1:
                self._with_invoice(name, bill, self.teller.witness.standing[name, bill])
        for act in (self._settle_refunds, self._disputes, self._payouts, self._switch):
            act()

    def _use(self, name: str) -> None:
        self._used += 1
        amount = D(self.chance.randrange(-30_000, 4_000_000)) / D(100_000)
        if self.chance.random() < 0.04:
            amount = D("0.00000080")
        at = self.teller.now
        if self.chance.random() < 0.1:
            at -= timedelta(days=self.chance.choice([1, 3, 20]))
            self.teller.kinds["late usage"] += 1
        self.stage.use(name, at, amount, number=self._used)
        self.teller.papers[name].use(at.year * 12 + at.month - 1, amount)
        self.teller.note(name, f"uses {amount} on {at:%m-%d}")

    def _with_invoice(self, name: str, bill: str, invoice: dict[str, Any]) -> None:
        open_acts: list[Callable[..., None]] = [
            self._pays,
            self._pays,
            self._declines,
            self._pays_part,
            self._by_dashboard,
        ]
        paid_acts: list[Callable[..., None]] = [self._refund_by_hand, self._disputes_it, self._disputes_it]
        if invoice["status"] in ("open", "uncollectible"):
            self.chance.choice(open_acts)(name, bill, invoice)
        elif invoice["status"] == "paid":
            self.chance.choice(paid_acts)(name, bill, invoice)
        self.teller._collect()

    def _told(self, name: str, what: str, answer: dict[str, Any], kind: str) -> bool:
        refused = answer.get("refused")
        self.teller.note(name, f"{what}{f': refused, {refused}' if refused else ''}", kind=None if refused else kind)
        return refused is None

    def _pays(self, name: str, bill: str, invoice: dict[str, Any]) -> None:
        late = "late payment" if invoice["status"] == "uncollectible" else "payment"
        self._told(name, f"pays {bill}", self.stage.steer(f"invoices/{invoice['id']}/pay"), late)

    def _declines(self, name: str, bill: str, invoice: dict[str, Any]) -> None:
        self._told(name, f"is declined for {bill}", self.stage.steer(f"invoices/{invoice['id']}/fail"), "decline")

    def _pays_part(self, name: str, bill: str, invoice: dict[str, Any]) -> None:
        """A payment of another amount than is due: a part, or too much."""
        if self.teller.is_away or invoice["status"] != "open":
            return
        amount = int(self._draw(D(invoice["amount_remaining"])))
        if amount < 50:
            return
        intent = self.stage.by_hand(
            "payment_intents", amount=amount, currency="usd", customer=invoice["customer"],
            payment_method="pm_card_visa", confirm="true",
        )  # fmt: skip
        answer = self.stage.by_hand(f"invoices/{invoice['id']}/attach_payment", payment_intent=intent["id"])
        if "refused" in answer:
            raise AssertionError(f"the sandbox does not attach a payment: {answer}")
        more = amount > invoice["amount_remaining"]
        self._told(name, f"pays {amount} towards {bill}", answer, "overpayment" if more else "partial payment")

    def _by_dashboard(self, name: str, bill: str, invoice: dict[str, Any]) -> None:
        if self.teller.is_away or invoice["status"] != "open" or self.chance.random() < 0.5:
            return
        act = self.chance.choice(BY_HAND)
        form = {"paid_out_of_band": "true"} if act == "pay" else {}
        if self._told(
            name,
            f"{bill}: {act} by hand",
            self.stage.by_hand(f"invoices/{invoice['id']}/{act}", **form),
            f"{act} by hand",
        ):
            self._by_hand.add((name, bill))

    def _refund_by_hand(self, name: str, bill: str, invoice: dict[str, Any]) -> None:
        """In the Dashboard, of what is certainly left: what the customer kept as credit is not sent back as well."""
        sheet = self.teller.papers[name].bills[bill]
        # One at a time: if it fails before the product heard of it, what it meant for the next would differ.
        if self.teller.is_away or sheet.promised or name in self.teller.unheard.values():
            return
        for payment in sheet.payments:
            left = min(sheet.can_go_back(payment), sheet.free + sheet.cash)
            charge = self.teller.witness.charges.get(payment)
            if left > 0 and charge is not None:
                amount = min(left, self._draw(left))
                answer = self.stage.by_hand("refunds", charge=charge, amount=int(amount * 100))
                self._told(name, f"{bill}: refund {amount} by hand", answer, "refund by hand")
                return

    def _disputes_it(self, name: str, bill: str, invoice: dict[str, Any]) -> None:
        sheet = self.teller.papers[name].bills[bill]
        taken = {dispute.payment for dispute in sheet.disputes.values()}
        for payment, paid in sheet.payments.items():
            charge = self.teller.witness.charges.get(payment)
            left = paid.amount - paid.back
            if payment not in taken and charge is not None and left > 0:
                inquiry = self.chance.random() < 0.3
                answer = self.stage.steer("disputes", charge=charge, amount=int(left * 100), inquiry=inquiry)
                self._told(name, f"{bill}: disputes {left}", answer, "inquiry" if inquiry else "dispute")
                return

    def _disputes(self) -> None:
        for number, (dispute, (name, bill, status)) in enumerate(list(self.teller.witness.disputes.items())):
            if self.chance.random() > 0.12 or status in ("won", "warning_closed"):
                continue
            to = self.chance.choice(
                ["won"] if status == "lost" else ["warning_closed", "needs_response"] if status.startswith("warning")
                else ["under_review", "won", "lost", "lost"]
            )  # fmt: skip
            if status == "lost" and self.chance.random() < 0.6:
                continue
            kind = "late win" if status == "lost" else f"dispute {to}"
            self._told(name, f"{bill}: dispute {number} {to}", self.stage.steer(f"disputes/{dispute}", status=to), kind)

    def _settle_refunds(self) -> None:
        for number, (refund, (name, bill, _, amount, status)) in enumerate(list(self.teller.witness.refunds.items())):
            act = "settle" if status == "pending" and self.chance.random() < 0.7 else "fail"
            if status not in ("pending", "succeeded") or self.chance.random() > (0.4 if status == "pending" else 0.05):
                continue
            if act == "fail" and self._meets_another(refund, name, bill):
                continue
            kind = (
                "refund settled"
                if act == "settle"
                else "refund failed late"
                if status == "succeeded"
                else "refund failed"
            )
            self._told(
                name, f"{bill}: refund {number} of {amount}, {act}", self.stage.steer(f"refunds/{refund}/{act}"), kind
            )

    def _meets_another(self, refund: str, name: str, bill: str) -> bool:
        """Whether the product has yet to hear of another refund, made in the Dashboard, of this bill.

        The money of one that fails is unused, and a refund from the Dashboard takes unused money first: which of both
        the product hears of first would matter, as docs/accounting.md says.
        """
        heard = {row.external_id for row in self.stage.rows("SELECT external_id FROM refunds")}
        refunds = self.teller.witness.refunds
        return any(refunds[other][:2] == (name, bill) for other in self.teller.witness.noted.keys() - heard - {refund})

    def _payouts(self) -> None:
        if self.chance.random() < 0.08:
            answer = self.stage.steer("payouts", arrive_s=self.chance.choice([0, 86_400, 86_400]))
            if "refused" not in answer:
                self.teller.house.fees += 2
                self._told(HOUSE, f"payout of {answer['amount']}", answer, "payout")
        for number, (payout, (_, status)) in enumerate(list(self.teller.house.payouts.items())):
            if status == "paid" and self.chance.random() < 0.01:
                self._told(HOUSE, f"payout {number} fails", self.stage.steer(f"payouts/{payout}/fail"), "payout failed")

    def _switch(self) -> None:
        if self.chance.random() < 0.03:
            pending = self.chance.random() < 0.5
            self.stage.sandbox.set(refund_pending=pending)
            self.teller.note("stripe", f"refunds begin pending: {pending}")

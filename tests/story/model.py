"""What an accountant would keep on paper, from the table of events in the design and from nothing of the product.

Two kinds of news are written down here: what people did at the desk, with the amounts that they named, and what Stripe
really did (charged, sent back, took for a dispute), however much of it the product has heard. An account is a name with
debits less credits. Money that Stripe holds for a customer is one account, whether or not it was paid out since.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal

D = Decimal
CENT = D("0.01")
ZERO = D(0)
SMALLEST_CHARGE = D("0.50")
FEE_SHARE, FEE_FIXED = D("0.029"), D("0.30")
CREDITS = ("promotional", "goodwill", "prepaid")  # used up in this order; they come back in the other one


@dataclass
class Payment:  # for a bill, through Stripe or past it ("bank")
    amount: Decimal
    through: str
    back: Decimal = ZERO  # sent back, or promised to be
    fee_known: bool = False


@dataclass
class Dispute:  # what a bank took of a payment, for now or for good
    payment: str
    amount: Decimal
    status: str
    withdrawn: Decimal = ZERO
    reinstated: Decimal = ZERO
    fees: Decimal = ZERO
    loss: Decimal = ZERO  # as it is booked


@dataclass
class Bill:
    name: str
    period: int
    charges: Decimal
    state: str = "draft"
    corrections: Decimal = ZERO
    total: Decimal = ZERO
    rounding: Decimal = ZERO
    credits: dict[str, Decimal] = field(default_factory=dict)
    due: Decimal = ZERO
    open: Decimal = ZERO
    given_up: Decimal = ZERO  # what was open when it was written off
    cash: Decimal = ZERO  # of the total, paid by cash and not credited since
    spare: Decimal = ZERO  # the customer's money from this bill that is used for nothing
    promised: Decimal = ZERO  # of it, on its way back
    touched: bool = False  # money, a credit note or a dispute: it can never be void
    payments: dict[str, Payment] = field(default_factory=dict)
    disputes: dict[str, Dispute] = field(default_factory=dict)

    @property
    def creditable(self) -> Decimal:
        if self.state not in ("final", "paid"):
            return ZERO
        return self.open + self.cash + sum(self.credits.values(), ZERO)

    @property
    def free(self) -> Decimal:
        return self.spare - self.promised

    def can_go_back(self, name: str) -> Decimal:
        # Nothing while a dispute of it is undecided.
        payment, lost = self.payments[name], ZERO
        for dispute in self.disputes.values():
            if dispute.payment == name and dispute.status in ("needs_response", "under_review"):
                return ZERO
            if dispute.payment == name and dispute.status == "lost":
                lost += dispute.withdrawn - dispute.reinstated
        return max(ZERO, payment.amount - payment.back - lost)

    @property
    def sendable(self) -> Decimal:
        return sum((self.can_go_back(name) for name in self.payments), ZERO)


class Paper:
    def __init__(self) -> None:
        self.accounts: dict[str, Decimal] = defaultdict(Decimal)
        self.running: dict[int, Decimal] = {}  # charges by period, not yet on a bill
        self.closed_before = 0  # every period below this number is closed
        self.bills: dict[str, Bill] = {}

    def move(self, debit: str, credit: str, amount: Decimal) -> None:
        self.accounts[debit] += amount
        self.accounts[credit] -= amount

    @property
    def unsettled(self) -> Decimal:
        """Charges that did not reach Stripe's balance yet: it learns of them together with their fee."""
        payments = [payment for bill in self.bills.values() for payment in bill.payments.values()]
        return sum((one.amount for one in payments if one.through == "stripe" and not one.fee_known), ZERO)

    # what runs up, and becomes a bill

    def use(self, period: int, amount: Decimal) -> None:
        period = max(period, self.closed_before)
        self.running[period] = self.running.get(period, ZERO) + amount
        self.move("unbilled", "usage", amount)

    def close(self, period: int) -> str | None:
        """Close the period; the name of its draft, if there was anything in it."""
        self.closed_before = period + 1
        if period not in self.running:
            return None
        return self._draft(period, 1, self.running.pop(period))

    def _draft(self, period: int, generation: int, charges: Decimal) -> str:
        name = f"{period}.{generation}"
        self.bills[name] = Bill(name, period, charges)
        return name

    def correct(self, bill: Bill, amount: Decimal) -> None:
        bill.corrections += amount
        self.move("unbilled", "adjustments", amount)

    def grant(self, kind: str, amount: Decimal) -> None:
        self.move("promotions", kind, amount)

    def finalize(self, bill: Bill) -> None:
        exact = bill.charges + bill.corrections
        rounded = exact.quantize(CENT, ROUND_HALF_EVEN)
        used, left = {}, rounded
        for kind in CREDITS:
            take = min(left, -self.accounts[kind])
            if take > 0:
                used[kind], left = take, left - take
        if exact == 0:
            bill.state = "empty"
        elif rounded < SMALLEST_CHARGE or 0 < left < SMALLEST_CHARGE:
            bill.state = "carried_forward"
            later = max(bill.period + 1, self.closed_before)
            self.running[later] = self.running.get(later, ZERO) + exact
        else:
            bill.total, bill.rounding, bill.credits, bill.due = rounded, rounded - exact, used, left
            bill.open, bill.state = left, "final" if left else "paid"
            self.move("unbilled", "rounding", bill.rounding)
            self.move("receivable", "unbilled", rounded)
            for kind, amount in used.items():
                self.move(kind, "receivable", amount)

    # what the desk does with a final bill

    def credit(self, bill: Bill, amount: Decimal, paid_part: str) -> Decimal | None:
        """A credit note; what of it is to be sent back, or None if it is impossible."""
        unpaid = min(amount, bill.open)
        cash = min(amount - unpaid, bill.cash)
        if amount > bill.creditable or cash > bill.sendable:
            return None
        bill.touched = True
        self.move("adjustments", "receivable", unpaid)
        self.move("adjustments", "unapplied" if paid_part == "refund" else "prepaid", cash)
        bill.open, bill.cash = bill.open - unpaid, bill.cash - cash
        left = amount - unpaid - cash
        for kind in reversed(CREDITS):
            take = min(left, bill.credits.get(kind, ZERO))
            if take:
                self.move("adjustments", kind, take)
                bill.credits[kind], left = bill.credits[kind] - take, left - take
        if bill.open == 0 and bill.state == "final":
            bill.state = "paid"
        if paid_part != "refund":
            return ZERO
        bill.spare += cash
        return cash

    def promise(self, bill: Bill, payment: str, amount: Decimal) -> None:
        bill.promised += amount
        bill.payments[payment].back += amount

    def keep(self, bill: Bill, amount: Decimal) -> None:
        bill.spare -= amount
        self.move("unapplied", "prepaid", amount)

    def void(self, bill: Bill, then: str) -> str | None:
        """As if it had never been; the name of the next draft, if it is billed again."""
        bill.state = "void"
        self.move("receivable", "bad_debt", bill.given_up)
        self.move("unbilled", "receivable", bill.total)
        for kind, amount in bill.credits.items():
            self.move("receivable", kind, amount)
        self.move("rounding", "unbilled", bill.rounding)
        self.move("adjustments", "unbilled", bill.corrections)
        # What came for it all the same is the customer's.
        self.move("receivable", "unapplied", bill.cash)
        bill.spare += bill.cash
        bill.open = bill.given_up = bill.cash = ZERO
        bill.credits = {}
        if then == "give_up":
            self.move("adjustments", "unbilled", bill.charges)
            return None
        return self._draft(bill.period, int(bill.name.split(".")[1]) + 1, bill.charges)

    def write_off(self, bill: Bill) -> None:
        if bill.state == "final":
            self.move("bad_debt", "receivable", bill.open)
            bill.given_up, bill.open, bill.state = bill.open, ZERO, "uncollectible"

    # money

    def paid(self, bill: Bill, name: str, amount: Decimal, *, through: str = "stripe") -> None:
        # What is owed is settled, what was given up as well; the rest is the customer's.
        bill.payments[name] = Payment(amount, through)
        bill.touched = True
        applied = ZERO
        if bill.state == "final":
            applied = min(amount, bill.open)
            bill.open -= applied
            self.move(through, "receivable", applied)
        elif bill.state == "uncollectible":
            applied = min(amount, bill.given_up)
            bill.given_up -= applied
            self.move(through, "bad_debt", applied)
        self.move(through, "unapplied", amount - applied)
        bill.cash += applied
        bill.spare += amount - applied
        if bill.state in ("final", "uncollectible") and bill.open + bill.given_up == 0:
            bill.state = "paid"

    def fee(self, payment: Payment) -> None:
        if not payment.fee_known:
            payment.fee_known = True
            fee = (payment.amount * FEE_SHARE).quantize(CENT, ROUND_HALF_UP) + FEE_FIXED
            self.move("payment_fees", "stripe", fee)

    def sent_back_by_hand(self, bill: Bill, payment: str, amount: Decimal) -> Decimal:
        """A refund made in the Dashboard: unused money first, else a credit note of what was paid; over how much."""
        beyond = max(ZERO, amount - bill.free)
        if beyond > bill.cash:
            raise AssertionError("the story never sends back what the customer kept")
        self.move("adjustments", "unapplied", beyond)
        bill.spare, bill.cash = bill.spare + beyond, bill.cash - beyond
        self.promise(bill, payment, amount)
        return beyond

    def never_sent_back(self, bill: Bill, beyond: Decimal) -> None:
        """A refund by hand failed: whether the product heard of it in time or not, no credit note is left of it."""
        self.move("unapplied", "adjustments", beyond)
        bill.spare, bill.cash = bill.spare - beyond, bill.cash + beyond

    def refunded(self, bill: Bill, payment: str, amount: Decimal) -> None:
        bill.promised -= amount
        bill.spare -= amount
        self.move("unapplied", bill.payments[payment].through, amount)

    def refund_ended(self, bill: Bill, payment: str, amount: Decimal, *, had_left: bool) -> None:
        bill.payments[payment].back -= amount
        if had_left:
            bill.spare += amount
            self.move(bill.payments[payment].through, "unapplied", amount)
        else:
            bill.promised -= amount

    def disputed(self, bill: Bill, name: str, payment: str, amount: Decimal, status: str) -> None:
        known = bill.disputes.setdefault(name, Dispute(payment, amount, status))
        known.status = status
        bill.touched = True
        self._follow(known)

    def dispute_money(self, bill: Bill, name: str, withdrawn: Decimal, fees: Decimal, reinstated: Decimal) -> None:
        """What the bank took in all, with what fees, and what it gave back in all."""
        dispute = bill.disputes[name]
        self.move("disputed", "stripe", (withdrawn - dispute.withdrawn) - (reinstated - dispute.reinstated))
        self.move("dispute_fees", "stripe", fees - dispute.fees)
        dispute.withdrawn, dispute.reinstated, dispute.fees = withdrawn, reinstated, fees
        self._follow(dispute)

    def _follow(self, dispute: Dispute) -> None:
        loss = max(ZERO, dispute.withdrawn - dispute.reinstated) if dispute.status == "lost" else ZERO
        self.move("chargebacks", "disputed", loss - dispute.loss)
        dispute.loss = loss


class House:
    """The company's own sheet: what went to the bank, and what Stripe charged for that."""

    def __init__(self) -> None:
        self.payouts: dict[str, tuple[Decimal, str]] = {}
        self.fees = ZERO

    @property
    def bank(self) -> Decimal:
        return sum((amount for amount, status in self.payouts.values() if status == "paid"), ZERO)

    @property
    def in_transit(self) -> Decimal:
        return sum((amount for amount, status in self.payouts.values() if status in ("pending", "in_transit")), ZERO)

    def at_stripe(self, papers: dict[str, Paper]) -> Decimal:
        """What Stripe holds for us in all, money on its way to the bank not counted."""
        held = sum((paper.accounts["stripe"] - paper.unsettled for paper in papers.values()), ZERO)
        gone = sum((amount for amount, status in self.payouts.values() if status not in ("failed", "canceled")), ZERO)
        return held - self.fees - gone

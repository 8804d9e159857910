"""What staff do in a story, and what the product then did of itself: drawn here, done on the stage, put on paper."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from invoicing.customers import customer_id_for
from invoicing.errors import InvoicingError
from tests.story.model import SMALLEST_CHARGE, Bill, Paper
from tests.story.world import World

D = Decimal
ENDINGS = ("void", "write_off", "outside_payment")


class Acts(World):
    """All acts of one story."""

    def at_the_desk(self) -> None:
        """Staff act on what the books say, so on customers of whom the books know all that happened."""
        self.teller._collect()
        waiting = set(self.teller.unheard.values())
        for name in self.teller.names:
            if name in waiting:
                continue
            if self.chance.random() < 0.01:
                amount, kind = D(self.chance.randrange(1, 4000)) / 100, self.chance.choice(["promotional", "goodwill"])
                self.stage.grant(name, kind, amount, grant_id=self._id())
                self.teller.papers[name].grant(kind, amount)
                self.teller.note(name, f"is granted {amount} {kind}", kind="grant")
            for bill in self._bills(name, "draft"):
                if self.chance.random() < 0.4:
                    self._edit(name, bill)
            for bill in self._bills(name, "final", "paid", "uncollectible"):
                if self.chance.random() < 0.08:
                    self._move(name, bill)
        self._transfers()

    def _edit(self, name: str, bill: Bill) -> None:
        paper, key = self.teller.papers[name], (name, bill.name)
        made = self._corrections.setdefault(key, [])
        if made and self.chance.random() < 0.4:
            adjustment, amount = made.pop()
            self.stage.uncorrect(name, bill.name, adjustment)
            paper.correct(bill, -amount)
            self.teller.note(name, f"{bill.name}: {amount} undone", kind="correction undone")
            return
        amount = D(self.chance.choice(["25", "0.333", "-0.07", "-1.5", "7.77"]))
        try:
            adjustment = self.stage.correct(name, bill.name, amount)
        except InvoicingError as refusal:
            self.teller.note(name, f"{bill.name}: corrected by {amount}: {refusal.code}")
            return
        made.append((adjustment, amount))
        paper.correct(bill, amount)
        self.teller.note(name, f"{bill.name}: corrected by {amount}", kind="correction")

    def _movements(self, name: str, bill: str) -> list[Any]:
        row = self.stage.bill(name, bill)
        return list(
            self.stage.rows(
                "SELECT id, kind, state FROM movements WHERE customer_id = :c AND invoice_id = :i",
                c=row.customer_id,
                i=row.id,
            )
        )

    def _move(self, name: str, bill: Bill) -> None:
        paper = self.teller.papers[name]
        moving = [movement for movement in self._movements(name, bill.name) if movement.state == "working"]
        kinds = ["credit_note", "credit_note", "refund_unapplied", "keep_unapplied", "void", "void", "write_off",
                 "outside_payment", "accept_dispute"]  # fmt: skip
        kind = self.chance.choice(kinds)
        alone = not any(kind in ENDINGS or other.kind in ENDINGS for other in moving)
        getattr(self, f"_{kind}")(name, paper, bill, alone=alone)

    def _ask(
        self, name: str, bill: Bill, kind: str, amount: Decimal | None, options: dict[str, str], *, possible: bool,
        detail: str = "",
    ) -> UUID | None:  # fmt: skip
        """Ask for it; the product must agree exactly when the paper does."""
        movement_id = self._id()
        try:
            self.stage.ask(name, bill.name, kind, amount, options, movement_id=movement_id)
            self.stage.ask(name, bill.name, kind, amount, options, movement_id=movement_id)
        except InvoicingError as refusal:
            self.teller.note(name, f"{bill.name}: {kind} {amount} {detail}: {refusal.code}", kind="refused at the desk")
            if possible:
                raise self.teller.judge._difference(
                    name, f"{kind} of {amount} is possible on paper: {refusal}"
                ) from refusal
            return None
        self.teller.note(name, f"{bill.name}: {kind} {amount} {detail}", kind=f"{kind} {detail}".strip())
        if not possible:
            raise self.teller.judge._difference(name, f"{kind} of {amount} on {bill.name} is impossible on paper")
        return movement_id

    def _promise(self, name: str, bill: Bill, amount: Decimal, movement: UUID) -> None:
        """The refunds of a movement: the newest payment first."""
        wanted = []
        for payment in reversed(list(bill.payments)):
            part = min(amount, bill.can_go_back(payment))
            if part:
                wanted.append((payment, part))
                self.teller.papers[name].promise(bill, payment, part)
                amount -= part
        rows = self.stage.rows(
            "SELECT payment_external_id AS p, amount FROM refunds WHERE movement_id = :m", m=movement
        )
        if sorted(wanted) != sorted((row.p, row.amount) for row in rows):
            raise self.teller.judge._difference(name, f"refunds of {bill.name}: {rows}, on paper {wanted}")

    def _credit_note(self, name: str, paper: Paper, bill: Bill, *, alone: bool) -> None:
        amount, paid_part = self._draw(bill.creditable or D(10)), self.chance.choice(["refund", "keep"])
        before = (bill.open, bill.cash)
        cash = min(amount - min(amount, bill.open), bill.cash)
        possible = alone and amount <= bill.creditable and cash <= bill.sendable
        when = "after payment" if bill.cash else "before payment"
        movement = self._ask(
            name, bill, "credit_note", amount, {"paid_part": paid_part}, possible=possible, detail=f"{paid_part} {when}"
        )
        if movement is not None:
            promised = paper.credit(bill, amount, paid_part)
            if promised is None:
                raise AssertionError(f"the paper changed its mind: {before}")
            self._promise(name, bill, promised, movement)

    def _refund_unapplied(self, name: str, paper: Paper, bill: Bill, *, alone: bool) -> None:
        amount = self._draw(bill.free or D(5))
        possible = alone and amount <= bill.free and amount <= bill.sendable
        movement = self._ask(name, bill, "refund_unapplied", amount, {}, possible=possible)
        if movement is not None:
            self._promise(name, bill, amount, movement)

    def _keep_unapplied(self, name: str, paper: Paper, bill: Bill, *, alone: bool) -> None:
        amount = self._draw(bill.free or D(5))
        possible = alone and amount <= bill.free and amount <= bill.sendable
        if self._ask(name, bill, "keep_unapplied", amount, {}, possible=possible):
            paper.keep(bill, amount)

    def _void(self, name: str, paper: Paper, bill: Bill, *, alone: bool) -> None:
        then = self.chance.choice(["rebill", "give_up"])
        possible = alone and bill.state in ("final", "uncollectible") and not bill.touched
        movement = self._ask(name, bill, "void", None, {"then": then}, possible=possible, detail=then)
        if movement is not None:
            self._endings[movement] = (name, bill.name, "void", then)

    def _write_off(self, name: str, paper: Paper, bill: Bill, *, alone: bool) -> None:
        possible = alone and bill.state == "final" and bill.open > 0
        movement = self._ask(name, bill, "write_off", None, {}, possible=possible)
        if movement is not None:
            self._endings[movement] = (name, bill.name, "write_off", "")

    def _outside_payment(self, name: str, paper: Paper, bill: Bill, *, alone: bool) -> None:
        owed = bill.open + bill.given_up
        amount = self._draw(owed or D(5))
        left = max(D(0), owed - amount)
        possible = alone and bill.state in ("final", "uncollectible") and (left == 0 or left >= SMALLEST_CHARGE)
        reference = f"SEPA {self.chance.randrange(10**9)}"
        options = {"received_at": self.teller.now.isoformat(), "reference": reference}
        detail = "in part" if left else ""
        if self._ask(name, bill, "outside_payment", amount, options, possible=possible, detail=detail):
            paper.paid(bill, reference, amount, through="bank")

    def _accept_dispute(self, name: str, paper: Paper, bill: Bill, *, alone: bool) -> None:
        for dispute, known in bill.disputes.items():
            possible = alone and known.status == "needs_response"
            self._ask(name, bill, "accept_dispute", None, {"dispute": dispute}, possible=possible)
            return

    def _transfers(self) -> None:
        """Refunds of bank transfers, which a person sends and confirms."""
        for row in self.stage.rows(
            "SELECT * FROM refunds WHERE state = 'requested' AND provider = 'manual' ORDER BY customer_id, id"
        ):
            if self.chance.random() < 0.3:
                self._transfer(row)

    def _transfer(self, row: Any) -> None:
        name, bill = self.teller._owner(str(row.invoice_id))
        self.stage.transferred(name, row.id)
        paper = self.teller.papers[name]
        paper.refunded(paper.bills[bill], row.payment_external_id, row.amount)
        self.teller.note(name, f"{bill}: {row.amount} sent by transfer", kind="refund by transfer")

    # what the product did of itself, at a time of its own choosing

    def after_cron(self) -> None:
        """Drafts that cron made, and made final."""
        for name in self.teller.names:
            paper = self.teller.papers[name]
            begins = self.teller.now - timedelta(hours=6)
            for period in range(min([*paper.running, self._period()]), begins.year * 12 + begins.month - 1):
                made = paper.close(period)
                if made is not None:
                    self.teller.note(name, f"{made}: draft over {paper.bills[made].charges}", kind="close")
            paper.closed_before = max(paper.closed_before, 0)
            for bill in sorted(self._bills(name, "draft"), key=lambda bill: bill.name):
                if self.stage.bill(name, bill.name).state != "draft":
                    paper.finalize(bill)
                    self.teller.note(name, f"{bill.name}: {bill.state} {bill.due} of {bill.total}", kind=bill.state)

    def after_work(self) -> None:
        """Which voids and write-offs the provider confirmed, and which refunds Stripe refused outright."""
        for movement, (name, bill, kind, then) in list(self._endings.items()):
            [row] = self.stage.rows("SELECT state, code FROM movements WHERE id = :m", m=movement)
            if row.state == "working":
                continue
            del self._endings[movement]
            paper = self.teller.papers[name]
            sheet = paper.bills[bill]
            if row.state == "done" and kind == "void":
                again = paper.void(sheet, then)
                self.teller.note(name, f"{bill}: void, then {again}", kind=f"voided {then}")
            elif row.state == "done":
                paper.write_off(sheet)
                self.teller.note(name, f"{bill}: written off", kind="written off")
            else:
                self.teller.note(name, f"{bill}: {kind} {row.state} {row.code}", kind="refused by Stripe")
        for row in self.stage.rows(
            "SELECT * FROM refunds WHERE state = 'failed' AND external_id IS NULL ORDER BY customer_id, id"
        ):
            if row.id not in self._lost_refunds and str(row.id) not in self.teller.witness.ours:
                self._lost_refunds.add(row.id)
                name, bill = self.teller._owner(str(row.invoice_id))
                paper = self.teller.papers[name]
                paper.refund_ended(paper.bills[bill], row.payment_external_id, row.amount, had_left=False)
                self.teller.note(name, f"{bill}: refund {row.amount} refused", kind="refund refused")
        self.failed_by_hand()

    def failed_by_hand(self) -> None:
        """Whether the product had issued a credit note for it, now void, or heard of it only after it had failed."""
        waiting = set(self.teller.unheard.values())
        for refund, (name, bill) in list(self.teller.witness.failed_by_hand.items()):
            if name in waiting:
                continue
            del self.teller.witness.failed_by_hand[refund]
            [row] = self.stage.rows("SELECT credit_note_id FROM refunds WHERE external_id = :r", r=refund)
            kind = "refund failed unheard" if row.credit_note_id is None else "credit note void"
            self.teller.note(name, f"{bill}: {kind}", kind=kind)

    def explains(self, kind: str, customer_id: UUID | None, invoice_id: UUID | None) -> bool:
        """Whether the story knows why both sides differ in this: somebody's hand, or Stripe's no, which is a task."""
        if invoice_id is None:
            return False
        name, bill = self.teller._owner(str(invoice_id))
        refused = any(movement.state == "refused" for movement in self._movements(name, bill))
        return customer_id == customer_id_for(name) and ((name, bill) in self._by_hand or refused)

    def ends(self) -> None:
        """The last days: nothing new, and what is under way comes to its end."""
        for refund, (_, _, _, _, status) in list(self.teller.witness.refunds.items()):
            if status == "pending":
                self.stage.steer(f"refunds/{refund}/settle")
        for row in self.stage.rows(
            "SELECT * FROM refunds WHERE state = 'requested' AND provider = 'manual' ORDER BY customer_id, id"
        ):
            self._transfer(row)

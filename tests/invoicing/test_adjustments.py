"""What staff can do to a draft, what they cannot, and that every step can be undone exactly."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from invoicing import adjustments, drafts
from invoicing.drafts import DraftChanged, InvoiceView, NotADraft, ReasonMissing
from invoicing.finalization import ApprovalPending, DraftHeld
from invoicing.tables import Invoice
from ledger.balances import unbilled
from tests.invoicing.conftest import Company, at


@dataclass
class Desk:
    """One draft of 30.0000005 in two lines, and a member of staff who works on it."""

    company: Company
    session: Session
    customer_id: UUID
    invoice_id: UUID

    @property
    def view(self) -> InvoiceView:
        self.session.expire_all()
        return drafts.get_invoice(self.session, customer_id=self.customer_id, invoice_id=self.invoice_id)

    @property
    def invoice(self) -> Invoice:
        return self.view.invoice

    def do(self, action: Any, *, actor: str = "agent@demo.test", **how: Any) -> Any:
        """Call an adjustment on the version that stands now, and commit."""
        how = {"expected_version": self.invoice.version, "reason": "Asked by the customer", **how}
        if action in (adjustments.add_charge, adjustments.credit_line, adjustments.waive_line):
            how["settings"] = self.company.settings
        if action is adjustments.approve:
            del how["reason"]
        result = action(
            self.session,
            customer_id=self.customer_id,
            invoice_id=self.invoice_id,
            actor=actor,
            now=at("2025-07-02"),
            **how,
        )
        self.session.commit()
        return result

    def line(self, item: str) -> UUID:
        return next(line.id for line in self.view.lines if line.item == item and line.adjustment_id is None)


@pytest.fixture
def desk(company: Company) -> Iterator[Desk]:
    company.customer("acme")
    company.use("acme", "2025-06-03", "20.0000005", item="machine")
    company.use("acme", "2025-06-04", "10", item="volume")
    company.close("2025-07-01")
    draft = company.invoice("acme", "2025-06").invoice
    with Session(company.engine, expire_on_commit=False) as session:
        yield Desk(company, session, draft.customer_id, draft.id)
    company.check()


def test_a_charge_is_an_entry_and_a_line_with_author_and_reason(desk: Desk) -> None:
    desk.do(adjustments.add_charge, amount=Decimal("12.50"), description="Migration help")
    view = desk.view
    assert view.exact_total == Decimal("42.5000005")
    assert view.lines[-1].description == "Migration help"
    assert (view.history[-1].actor, view.history[-1].reason) == ("agent@demo.test", "Asked by the customer")
    books = unbilled(
        desk.session,
        customer_id=desk.customer_id,
        period_start=view.invoice.period_start,
        document_ids=[desk.invoice_id],
    )
    assert books == view.exact_total


def test_a_waived_line_leaves_exactly_nothing_of_itself(desk: Desk) -> None:
    desk.do(adjustments.credit_line, line_id=desk.line("machine"), amount=Decimal("5"))
    desk.do(adjustments.waive_line, line_id=desk.line("machine"))
    assert desk.view.exact_total == 10
    with pytest.raises(adjustments.LineNotAdjustable):
        desk.do(adjustments.waive_line, line_id=desk.line("machine"))


def test_no_more_is_credited_than_the_line_has_left(desk: Desk) -> None:
    desk.do(adjustments.credit_line, line_id=desk.line("volume"), amount=Decimal("6"))
    with pytest.raises(adjustments.CreditTooLarge, match="4 USD are left"):
        desk.do(adjustments.credit_line, line_id=desk.line("volume"), amount=Decimal("4.01"))


def test_undo_restores_the_total_to_the_last_digit_and_keeps_the_record(desk: Desk) -> None:
    before = desk.view.exact_total
    waived = desk.do(adjustments.waive_line, line_id=desk.line("machine"))
    desk.do(adjustments.undo, adjustment_id=waived.id, reason="Wrong customer")
    view = desk.view
    assert view.exact_total == before
    assert len(view.lines) == 2
    assert view.adjustments[0].undo_reason == "Wrong customer"
    with pytest.raises(adjustments.AdjustmentUndone):
        desk.do(adjustments.undo, adjustment_id=waived.id)


def test_the_second_of_two_tabs_is_told_that_the_draft_changed(desk: Desk) -> None:
    seen = desk.invoice.version
    desk.do(adjustments.add_charge, amount=Decimal("1"), description="First tab")
    with pytest.raises(DraftChanged) as refusal:
        desk.do(adjustments.add_charge, amount=Decimal("1"), description="Second tab", expected_version=seen)
    desk.session.rollback()
    assert (refusal.value.expected, refusal.value.actual) == (seen, seen + 1)
    assert desk.view.exact_total == Decimal("31.0000005")


def test_an_adjustment_above_the_limit_waits_for_a_second_person(desk: Desk) -> None:
    big = desk.do(adjustments.add_charge, amount=Decimal("100.01"), description="Support contract")
    assert desk.view.needs_approval
    with pytest.raises(ApprovalPending):
        desk.company.finalize("acme", "2025-06", on="2025-07-03")
    assert desk.company.finalize_due("2025-07-10").skipped == 1
    with pytest.raises(adjustments.SecondPersonNeeded):
        desk.do(adjustments.approve, adjustment_id=big.id)
    desk.session.rollback()
    desk.do(adjustments.approve, adjustment_id=big.id, actor="approver@demo.test")
    assert desk.company.finalize("acme", "2025-06", on="2025-07-03").invoice.total == Decimal("130.01")


def test_a_held_draft_is_not_finalized_until_it_is_released(desk: Desk) -> None:
    desk.do(drafts.hold, reason="Customer disputes the volume")
    with pytest.raises(DraftHeld, match="disputes the volume"):
        desk.company.finalize("acme", "2025-06", on="2025-07-03")
    assert desk.company.finalize_due("2025-07-10").final == 0
    with pytest.raises(drafts.AlreadyHeld):
        desk.do(drafts.hold)
    desk.session.rollback()
    desk.do(drafts.release, reason="Settled by phone")
    assert desk.company.finalize_due("2025-07-10").final == 1


def test_nothing_on_a_final_invoice_can_be_changed(desk: Desk) -> None:
    volume = desk.line("volume")
    desk.company.finalize("acme", "2025-06", on="2025-07-03")
    for action, how in (
        (adjustments.add_charge, {"amount": Decimal(1), "description": "Late idea"}),
        (adjustments.credit_line, {"line_id": volume, "amount": Decimal(1)}),
        (adjustments.waive_line, {"line_id": volume}),
        (drafts.hold, {}),
    ):
        with pytest.raises(NotADraft):
            desk.do(action, **how)
        desk.session.rollback()
    with pytest.raises(NotADraft):
        desk.company.finalize("acme", "2025-06", on="2025-07-03")


@pytest.mark.parametrize("amount", ["0", "-1", "0.001", "NaN", "Infinity", "1000000000"])
def test_an_amount_that_is_none_is_refused_by_name(desk: Desk, amount: str) -> None:
    with pytest.raises(adjustments.BadAmount, match="2 decimals in USD"):
        desk.do(adjustments.add_charge, amount=Decimal(amount), description="x")


def test_every_adjustment_says_why(desk: Desk) -> None:
    with pytest.raises(ReasonMissing):
        desk.do(adjustments.add_charge, amount=Decimal(1), description="x", reason="  ")


def test_adjustments_are_carried_forward_with_the_charges(desk: Desk) -> None:
    """20.0000005 + 10 waived but 0.2 charged: 0.2 is below the minimum and moves to July."""
    desk.do(adjustments.waive_line, line_id=desk.line("machine"))
    desk.do(adjustments.waive_line, line_id=desk.line("volume"))
    desk.do(adjustments.add_charge, amount=Decimal("0.20"), description="Stamp")
    assert desk.company.finalize("acme", "2025-06", on="2025-07-03").invoice.state == "carried_forward"
    desk.company.use("acme", "2025-07-05", "1")
    desk.company.close("2025-08-01")
    assert desk.company.invoice("acme", "2025-07").exact_total == Decimal("1.20")

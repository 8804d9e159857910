"""What is not done with a final invoice: each refusal has a code and leaves everything as it was."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.orm import Session

from invoicing.errors import InvoicingError
from invoicing.movements.requests import awaiting, movements_of, withdraw_movement
from invoicing.movements.tasks import TaskResolved, close_gone, count_open, open_task, open_tasks, resolve_task
from invoicing.settings import Settings
from ledger.posting import EntryConflict
from tests.invoicing.conftest import Company, at
from tests.invoicing.desk import AGENT, NOW, SECOND, Desk

D = Decimal
OUTSIDE: dict[str, Any] = {"received_at": "2025-07-05T00:00:00Z", "reference": "SEPA 1"}


def paid(desk: Desk) -> None:
    desk.pay("100")


def unpaid(desk: Desk) -> None:
    pass


def disputed(desk: Desk) -> None:
    desk.pay("100")
    desk.dispute("needs_response")


def overpaid_and_disputed(desk: Desk) -> None:
    desk.pay("120")
    desk.dispute("under_review", amount="120")


def lost(desk: Desk) -> None:
    desk.pay("100")
    desk.dispute("lost")
    desk.dispute_funds("txn", "-100", "15")


def voiding(desk: Desk) -> None:
    desk.ask("void", then="rebill")


def void(desk: Desk) -> None:
    desk.done(desk.ask("void", then="give_up"))


def given_up(desk: Desk) -> None:
    desk.done(desk.ask("write_off"))


def overpaid(desk: Desk) -> None:
    desk.pay("120")


def half_credited(desk: Desk) -> None:
    desk.ask("credit_note", "50")


def paid_by_bank(desk: Desk) -> None:
    desk.done(desk.ask("outside_payment", **OUTSIDE))


Options = dict[str, Any]
Given = Callable[[Desk], None]
REFUSED: list[tuple[Given, str, str | None, Options, str]] = [
    (unpaid, "melt", None, {}, "bad_options"),
    (unpaid, "credit_note", None, {}, "bad_amount"),
    (unpaid, "credit_note", "0", {}, "bad_amount"),
    (unpaid, "credit_note", "-1", {}, "bad_amount"),
    (unpaid, "credit_note", "1.001", {}, "bad_amount"),
    (unpaid, "credit_note", "NaN", {}, "bad_amount"),
    (unpaid, "credit_note", "100.01", {}, "amount_too_large"),
    (unpaid, "credit_note", "1", {"paid_part": "burn"}, "bad_options"),
    (unpaid, "credit_note", "1", {"colour": "red"}, "bad_options"),
    (half_credited, "credit_note", "50.01", {}, "amount_too_large"),
    (paid, "credit_note", "1", {}, "bad_options"),
    (void, "credit_note", "1", {}, "movement_not_possible"),
    (given_up, "credit_note", "1", {}, "movement_not_possible"),
    (disputed, "credit_note", "1", {"paid_part": "refund"}, "amount_too_large"),
    (disputed, "credit_note", "1", {"paid_part": "keep"}, "amount_too_large"),
    (lost, "credit_note", "1", {"paid_part": "keep"}, "amount_too_large"),
    (lost, "credit_note", "1", {"paid_part": "refund"}, "amount_too_large"),
    (paid, "refund_unapplied", "1", {}, "movement_not_possible"),
    (overpaid, "refund_unapplied", "20.01", {}, "amount_too_large"),
    (overpaid, "refund_unapplied", "20", {"payment": "inpay_2"}, "amount_too_large"),
    (overpaid_and_disputed, "refund_unapplied", "20", {}, "amount_too_large"),
    (overpaid_and_disputed, "keep_unapplied", "20", {}, "amount_too_large"),
    (overpaid, "keep_unapplied", "20.01", {}, "amount_too_large"),
    (unpaid, "keep_unapplied", None, {}, "movement_not_possible"),
    (unpaid, "void", None, {}, "bad_options"),
    (unpaid, "void", "99", {"then": "rebill"}, "bad_amount"),
    (paid, "void", None, {"then": "rebill"}, "movement_not_possible"),
    (half_credited, "void", None, {"then": "rebill"}, "movement_under_way"),
    (void, "void", None, {"then": "rebill"}, "movement_not_possible"),
    (voiding, "void", None, {"then": "rebill"}, "movement_under_way"),
    (voiding, "credit_note", "1", {}, "movement_under_way"),
    (voiding, "write_off", None, {}, "movement_under_way"),
    (paid, "write_off", None, {}, "movement_not_possible"),
    (given_up, "write_off", None, {}, "movement_not_possible"),
    (unpaid, "write_off", "99", {}, "bad_amount"),
    (paid, "outside_payment", None, OUTSIDE, "movement_not_possible"),
    (unpaid, "outside_payment", "99.80", OUTSIDE, "payment_refused"),
    (unpaid, "outside_payment", None, {**OUTSIDE, "received_at": "yesterday"}, "bad_options"),
    (unpaid, "outside_payment", None, {**OUTSIDE, "received_at": "2025-07-05T00:00:00"}, "bad_options"),
    (unpaid, "outside_payment", None, {**OUTSIDE, "reference": " "}, "bad_options"),
    (unpaid, "outside_payment", None, {"reference": "x"}, "bad_options"),
    (paid, "accept_dispute", None, {"dispute": "dp_1"}, "bad_options"),
    (lost, "accept_dispute", None, {"dispute": "dp_1"}, "movement_not_possible"),
    (disputed, "accept_dispute", "99", {"dispute": "dp_1"}, "bad_amount"),
]


@pytest.mark.parametrize(
    ("given", "kind", "amount", "options", "code"),
    REFUSED,
    ids=[f"{row[0].__name__}-{row[1]}-{row[2]}-{'-'.join(row[3].values())}-{row[4]}" for row in REFUSED],
)
def test_what_the_invoice_does_not_allow_is_refused_by_name_and_changes_nothing(
    company: Company, given: Given, kind: str, amount: str | None, options: Options, code: str
) -> None:
    company.settings = Settings(approval_limit=D(1000))
    desk = Desk(company)
    given(desk)
    before = (desk.journal(), desk.invoice().version, len(company.remembered.asked))
    with pytest.raises(InvoicingError) as refusal:
        desk.ask(kind, amount, **options)
    assert refusal.value.code == code
    assert str(refusal.value)[-1] in ".!"
    assert (desk.journal(), desk.invoice().version, len(company.remembered.asked)) == before


def test_a_draft_has_no_movements(company: Company) -> None:
    desk = Desk(company)
    company.use("acme", "2025-07-03", "5")
    company.close("2025-08-01")
    desk.invoice_id = company.invoice("acme", "2025-07").invoice.id
    wishes: list[tuple[str, Options]] = [("credit_note", {}), ("void", {"then": "rebill"}), ("write_off", {})]
    for kind, options in wishes:
        with pytest.raises(InvoicingError) as refusal:
            desk.ask(kind, "5", **options)
        assert refusal.value.code == "movement_not_possible"


def test_the_same_movement_again_does_nothing_and_another_under_its_id_is_refused(company: Company) -> None:
    desk = Desk(company)
    known = uuid4()
    first = desk.ask("credit_note", "30", movement_id=known)
    desk.done(first)
    before = desk.journal()
    assert desk.ask("credit_note", "30.00", movement_id=known).state == "done"
    others: list[Callable[[], object]] = [
        lambda: desk.ask("credit_note", "31", movement_id=known),
        lambda: desk.ask("write_off", movement_id=known),
        lambda: desk.ask("credit_note", "30", movement_id=known, reason="Another"),
        lambda: desk.ask("credit_note", "30", movement_id=known, paid_part="keep"),
    ]
    for changed in others:
        with pytest.raises(InvoicingError) as refusal:
            changed()
        assert refusal.value.code == "movement_conflict"
    assert desk.journal() == before


@pytest.mark.parametrize(
    ("kind", "amount", "options"),
    [
        ("credit_note", "100.01", {"paid_part": "refund"}),
        ("refund_unapplied", "100.01", {}),
        ("write_off", None, {}),
        ("void", None, {"then": "give_up"}),
    ],
    ids=["credit note", "refund", "write-off", "void"],
)
def test_above_the_limit_nothing_moves_before_a_second_person_agreed(
    company: Company, kind: str, amount: str | None, options: Options
) -> None:
    desk = Desk(company, used="200")
    if kind in ("credit_note", "refund_unapplied"):
        desk.pay("400")
    before = desk.journal()
    asked = desk.ask(kind, amount, **options)
    assert (asked.state, asked.needs_approval) == ("awaiting_approval", True)
    assert not desk.done(asked)
    with pytest.raises(InvoicingError) as refusal:
        desk.approve(asked, actor=AGENT)
    assert refusal.value.code == "second_person_needed"
    assert (desk.journal(), company.remembered.asked) == (before, {})
    assert desk.approve(asked).state == "working"
    assert desk.approve(asked).state == "working"
    assert company.remembered.asked
    desk.check()


def test_a_void_that_is_billed_again_needs_no_second_person(company: Company) -> None:
    desk = Desk(company, used="200")
    assert desk.ask("void", then="rebill").state == "working"


def test_what_awaits_approval_can_be_withdrawn_and_then_no_longer_approved(company: Company) -> None:
    desk = Desk(company, used="200")
    asked = desk.ask("write_off")
    with Session(desk.engine) as session, session.begin():
        assert [found.id for found in awaiting(session)] == [asked.id]
        for _ in range(2):
            withdraw_movement(
                session,
                customer_id=desk.customer_id,
                movement_id=asked.id,
                actor=SECOND,
                reason="They paid",
                now=NOW,
            )
        assert awaiting(session) == []
        (found,) = movements_of(session, customer_id=desk.customer_id, invoice_id=desk.invoice_id)
        assert (found.state, found.note) == ("withdrawn", "They paid")
    with pytest.raises(InvoicingError) as refusal:
        desk.approve(asked)
    assert refusal.value.code == "not_awaiting_approval"
    desk.ask("credit_note", "10")
    desk.check()


def test_an_approval_that_comes_too_late_is_refused_and_the_wish_stays(company: Company) -> None:
    """Between the wish and the second person's yes a smaller credit note took what was left."""
    desk = Desk(company, used="200")
    asked = desk.ask("credit_note", "150")
    desk.ask("credit_note", "60")
    with pytest.raises(InvoicingError) as refusal:
        desk.approve(asked)
    assert refusal.value.code == "amount_too_large"
    assert desk.movement(asked).state == "awaiting_approval"
    desk.check()


def test_a_refused_movement_is_a_task_that_names_it(company: Company) -> None:
    desk = Desk(company)
    asked = desk.ask("void", then="rebill")
    assert [desk.refuse(asked), desk.refuse(asked), desk.done(asked)] == [True, False, False]
    assert (desk.movement(asked).state, desk.movement(asked).code) == ("refused", "invoice_not_open")
    assert desk.tasks() == ["movement_refused"]
    assert desk.ask("void", then="rebill").state == "working"
    desk.check()


def test_a_void_that_money_overtook_posts_nothing_and_is_a_task(company: Company) -> None:
    desk = Desk(company)
    asked = desk.ask("void", then="rebill")
    desk.pay("40")
    assert desk.done(asked)
    assert (desk.movement(asked).state, desk.movement(asked).code) == ("refused", "overtaken")
    assert (desk.invoice().state, desk.invoice().open) == ("final", D(60))
    assert desk.tasks() == ["movement_refused"]
    desk.check()


def test_a_write_off_gives_up_only_what_is_still_open_when_it_is_confirmed(company: Company) -> None:
    desk = Desk(company)
    asked = desk.ask("write_off")
    desk.pay("40", "inpay_1")
    desk.done(asked)
    assert desk.books()["expenses:bad_debt"] == D(60)
    desk.check()


def test_a_write_off_that_is_overtaken_by_all_the_money_gives_up_nothing(company: Company) -> None:
    desk = Desk(company)
    asked = desk.ask("write_off")
    desk.pay("100")
    desk.done(asked)
    assert (desk.invoice().state, desk.movement(asked).state) == ("paid", "done")
    desk.check()


def test_money_that_came_by_bank_goes_back_by_hand_and_the_task_ends_with_it(company: Company) -> None:
    desk = Desk(company)
    paid_by_bank(desk)
    asked = desk.ask("credit_note", "40", paid_part="refund")
    assert desk.tasks() == ["refund_by_hand"]
    (refund,) = desk.refunds()
    assert refund.id not in company.remembered.asked
    desk.settle(refund, "succeeded", "SEPA 2")
    desk.done(asked)
    assert desk.tasks() == []
    assert desk.books() == {"assets:bank": D(60), "income:adjustments": D(-40), "income:usage": D(100)}
    desk.check()


def test_the_newest_payments_go_back_first_and_never_a_disputed_one(company: Company) -> None:
    desk = Desk(company)
    for day, (external_id, amount) in enumerate((("inpay_1", "50"), ("inpay_2", "30"), ("inpay_3", "20")), start=3):
        desk.pay(amount, external_id, on=at(f"2025-07-0{day}"))
    desk.dispute("needs_response", amount="30", payment="inpay_2")
    desk.ask("credit_note", "60", paid_part="refund")
    assert {refund.payment_external_id: refund.amount for refund in desk.refunds()} == {
        "inpay_3": D(20),
        "inpay_1": D(40),
    }
    with pytest.raises(InvoicingError):
        desk.ask("credit_note", "11", paid_part="refund")
    desk.dispute("won", amount="30", payment="inpay_2")
    desk.ask("credit_note", "11", paid_part="refund")
    desk.check()


def test_a_dashboard_refund_that_does_not_fit_is_refused_by_name(company: Company) -> None:
    desk = Desk(company)
    with pytest.raises(InvoicingError) as refusal:
        desk.foreign_refund("10", payment="inpay_9")
    assert refusal.value.code == "unknown_payment"
    desk.pay("100")
    desk.foreign_refund("60", external_id="re_1")
    for amount, external_id, code in (
        ("41", "re_2", "refund_refused"),
        ("0", "re_2", "refund_refused"),
        ("59", "re_1", "refund_conflict"),
    ):
        with pytest.raises(InvoicingError) as refusal:
            desk.foreign_refund(amount, external_id=external_id)
        assert refusal.value.code == code
    failed = desk.foreign_refund("40", external_id="re_4", status="failed")
    assert failed.credit_note_id is None
    desk.check()


def test_a_dispute_transaction_with_other_content_is_refused(company: Company) -> None:
    desk = Desk(company)
    desk.pay("100")
    desk.dispute("needs_response")
    desk.dispute_funds("txn", "-100", "15")
    with pytest.raises(EntryConflict):
        desk.dispute_funds("txn", "-90", "15")
    for changed in ({"payment": "inpay_2"}, {"status": "melted"}, {"amount": "0"}):
        with pytest.raises(InvoicingError):
            desk.dispute(**{"status": "lost", **changed})
    desk.check()


def test_a_task_found_again_is_the_same_and_one_that_is_gone_is_closed(company: Company) -> None:
    company.customer("acme")

    def find(session: Session, subject: str, text: str = "Look") -> int:
        return open_task(session, kind="drift", subject=subject, title="Drift", text=text, cause="run 1", now=NOW).seen

    with Session(company.engine) as session, session.begin():
        assert [find(session, "a"), find(session, "a", "Look again"), find(session, "b")] == [1, 2, 1]
        first, second = open_tasks(session, kind="drift")
        by_subject = {task.subject: task for task in (first, second)}
        assert by_subject["a"].text == "Look again"
        assert count_open(session) == {"drift": 2}
        assert close_gone(session, kinds=["drift"], keep={("drift", "a")}, cause="run 2", now=NOW) == 1
        resolve_task(session, task_id=by_subject["a"].id, actor=AGENT, reason="Corrected at Stripe", now=NOW)
        with pytest.raises(TaskResolved):
            resolve_task(session, task_id=by_subject["a"].id, actor=AGENT, reason="Again", now=NOW)
        assert count_open(session) == {}
        assert find(session, "a") == 1

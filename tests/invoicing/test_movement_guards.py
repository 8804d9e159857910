"""Attacks by plain SQL on what happens after an invoice is final, as the application's role and as the owner; races."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.database import create_engine
from invoicing.errors import InvoicingError
from invoicing.movements.tables import CreditNote
from invoicing.settings import Settings
from ledger.documents import open_documents
from tests.fakes.provider import RememberingProvider
from tests.integration.ledger.books import SET_APP_ROLE, plain_url
from tests.invoicing.conftest import Company
from tests.invoicing.desk import NOW, SECOND, Desk
from tests.processes.services import Databases

D = Decimal


VOID = "voided_at = now(), voided_by = 'eve', void_reason = 'x'"


@dataclass
class Attacked:
    connection: psycopg.Connection
    names: dict[str, object]


@pytest.fixture(scope="module", params=["app", "owner"])
def prepared(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Attacked]:
    """Acme's June: 200 used, 250 paid, 50 credited and sent back, one movement awaiting, one dispute, one task."""
    name = databases.clone()
    url = databases.url(name)
    engine = create_engine(url)
    company = Company(engine, RememberingProvider(), Settings())
    desk = Desk(company, used="200")
    desk.pay("100")
    desk.pay("150", "inpay_2")
    desk.done(desk.ask("credit_note", "50", paid_part="refund"))
    (refund,) = desk.refunds()
    desk.settle(refund, "succeeded")
    wish = desk.ask("credit_note", "120", paid_part="keep")
    working = desk.ask("credit_note", "5", paid_part="keep")
    desk.dispute("lost", payment="inpay_1")
    desk.dispute_funds("txn", "-100", "15")
    with Session(engine) as session, session.begin():
        free = {"free_note": uuid4(), "free_refund": uuid4()}
        open_documents(session, [(desk.customer_id, free["free_note"], None)], kind="credit_note", now=NOW)
        open_documents(session, [(desk.customer_id, free["free_refund"], None)], kind="refund", now=NOW)
        session.execute(
            text("""INSERT INTO tasks (id, kind, subject, title, text, cause, opened_at, seen_at, resolved_at,
                                       resolved_by, resolution)
                    VALUES (gen_random_uuid(), 'drift', 'x', 'x', 'x', 'x', now(), now(), now(), 'x', 'x')""")
        )
    names: dict[str, object] = {
        "acme": desk.customer_id,
        "invoice": desk.invoice_id,
        "number": desk.invoice().number,
        **free,
        "wish": wish.id,
        "working": working.id,
    }
    with psycopg.connect(plain_url(url), autocommit=True) as connection:
        if request.param == "app":
            connection.execute(SET_APP_ROLE)
        yield Attacked(connection, names)
    company.check()
    engine.dispose()
    databases.drop(name)


def insertion(table: str, columns: dict[str, str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(columns.values())})"  # noqa: S608 - our own


def movement(**changes: str) -> str:
    columns = {
        "customer_id": "%(acme)s",
        "id": "gen_random_uuid()",
        "invoice_id": "%(invoice)s",
        "kind": "'credit_note'",
        "amount": "1",
        "reason": "'x'",
        "actor": "'eve'",
        "requested_at": "now()",
        "needs_approval": "false",
        "state": "'working'",
        **changes,
    }
    return insertion("movements", columns)


def note(**changes: str) -> str:
    columns = {
        "customer_id": "%(acme)s",
        "id": "%(free_note)s",
        "invoice_id": "%(invoice)s",
        "seq": "3",
        "number": "%(number)s || '-C3'",
        "amount": "10",
        "unpaid_part": "0",
        "cash_part": "10",
        "credits_part": "0",
        "disposition": "'keep'",
        "reason": "'x'",
        "actor": "'eve'",
        "issued_at": "now()",
        **changes,
    }
    return insertion("credit_notes", columns)


def refund(**changes: str) -> str:
    columns = {
        "customer_id": "%(acme)s",
        "id": "%(free_refund)s",
        "invoice_id": "%(invoice)s",
        "provider": "'stripe'",
        "payment_external_id": "'inpay_1'",
        "amount": "10",
        "reason": "'x'",
        "actor": "'eve'",
        "requested_at": "now()",
        **changes,
    }
    return insertion("refunds", columns)


REFUSED = {
    "a movement that begins done": movement(state="'done'", decided_at="now()"),
    "a movement above the limit that begins working": movement(needs_approval="true"),
    "a movement that approves itself": movement(needs_approval="true", approved_by="'eve'", approved_at="now()"),
    "a movement of nothing": movement(amount="0"),
    "a movement of a NaN": movement(amount="'NaN'"),
    "a void beside what is under way": movement(kind="'void'", draft_window_s="0"),
    "a movement that skips its approval": "UPDATE movements SET state = 'working' WHERE id = %(wish)s",
    "a movement that its author approves": """UPDATE movements SET state = 'working', approved_by = actor,
        approved_at = now() WHERE id = %(wish)s""",
    "a movement that needs no approval any more": """UPDATE movements SET state = 'working', needs_approval = false
        WHERE id = %(wish)s""",
    "a movement that grew": """UPDATE movements SET state = 'working', approved_by = 'x', approved_at = now(),
        amount = 500 WHERE id = %(wish)s""",
    "a movement that begins again": "UPDATE movements SET state = 'working', decided_at = NULL WHERE state = 'done'",
    "a movement removed": "DELETE FROM movements WHERE id = %(working)s",
    "movements emptied": "TRUNCATE movements CASCADE",
    "a credit note beyond the invoice": note(amount="500", cash_part="500"),
    "a credit note of what was never paid": note(amount="10", cash_part="0", unpaid_part="10"),
    "a credit note of credits that never paid": note(amount="10", cash_part="0", credits_part="10"),
    "a credit note that does not add up": note(amount="11"),
    "a credit note out of turn": note(seq="4", number="%(number)s || '-C4'"),
    "a credit note with a number of its own": note(number="'X-C3'"),
    "a credit note changed": "UPDATE credit_notes SET amount = amount + 1, cash_part = cash_part + 1",
    "a credit note removed": "DELETE FROM credit_notes",
    "a credit note made void while its refund stands": f"UPDATE credit_notes SET {VOID}",  # noqa: S608 - our own
    "a credit note made void although its refund was ours": """WITH ended AS (
        UPDATE refunds SET state = 'failed', failed_at = now() RETURNING credit_note_id)
        UPDATE credit_notes SET voided_at = now(), voided_by = 'eve', void_reason = 'x'
          FROM ended WHERE id = credit_note_id""",
    "a credit note that is void from the beginning": note(
        voided_at="now()", voided_by="'eve'", void_reason="'x'", disposition="'refund'"
    ),
    "a credit note that is half void": "UPDATE credit_notes SET voided_at = now()",
    "a refund beyond the payment": refund(payment_external_id="'inpay_2'", amount="100.01"),
    "a refund that begins as succeeded": refund(state="'succeeded'", settled_at="now()"),
    "a refund of no payment": refund(payment_external_id="'inpay_9'"),
    "a refund of a NaN": refund(amount="'NaN'"),
    "a refund that shrinks": "UPDATE refunds SET amount = 1",
    "a refund of another payment": "UPDATE refunds SET payment_external_id = 'inpay_1'",
    "a refund under another name": "UPDATE refunds SET external_id = 're_other'",
    "a refund that succeeds less": "UPDATE refunds SET state = 'pending', settled_at = NULL",
    "a refund removed": "DELETE FROM refunds",
    "a dispute that is open again": "UPDATE disputes SET status = 'needs_response', closed_at = NULL",
    "a dispute whose money shrinks": "UPDATE disputes SET withdrawn = 0",
    "a dispute that forgets its invoice": """UPDATE disputes SET invoice_id = NULL, payment_external_id = NULL,
        amount = NULL, currency = NULL, reason = NULL, status = NULL, opened_at = NULL, closed_at = NULL""",
    "a dispute removed": "DELETE FROM disputes",
    "an invoice that was credited more": "UPDATE invoices SET amount_credited = amount_credited + 1",
    "an invoice that was paid less": "UPDATE invoices SET amount_paid = amount_paid - 1",
    "a paid invoice made void": "UPDATE invoices SET state = 'void'",
    "a resolved task reopened": "UPDATE tasks SET resolved_at = NULL, resolved_by = NULL, resolution = NULL",
    "a task removed": "DELETE FROM tasks",
}


@pytest.mark.parametrize("statement", [movement(), note(), refund()], ids=["movement", "credit note", "refund"])
def test_what_the_attacks_start_from_is_acceptable(prepared: Attacked, statement: str) -> None:
    """Or each of them would be refused for another reason than its name says."""
    with prepared.connection.transaction(force_rollback=True):
        assert prepared.connection.execute(statement, prepared.names).rowcount == 1


@pytest.mark.parametrize("attack", REFUSED.values(), ids=REFUSED.keys())
def test_postgres_refuses_what_the_code_would_never_do(prepared: Attacked, attack: str) -> None:
    with (
        prepared.connection.transaction(force_rollback=True),
        pytest.raises(
            (
                errors.IntegrityError,
                errors.InsufficientPrivilege,
                errors.FeatureNotSupported,
            )
        ),
    ):
        assert prepared.connection.execute(attack, prepared.names).rowcount > 0, "the attack met no row"


def test_a_credit_note_is_void_once_and_only_when_its_refund_failed_and_its_entries_are_taken_back(
    company: Company, database_url: str
) -> None:
    desk = Desk(company)
    desk.pay("100")
    desk.foreign_refund("25")
    desk.foreign_refund("10", external_id="re_fails")
    with psycopg.connect(plain_url(database_url), autocommit=True) as connection:
        # Its refund failed, but the customer's money is still booked as given back.
        early = f"""UPDATE refunds SET state = 'failed', failed_at = now() WHERE external_id = 're_f';
                    UPDATE credit_notes SET {VOID} WHERE seq = 1"""  # noqa: S608 - our own
        with pytest.raises(errors.IntegrityConstraintViolation, match="taken back"):
            connection.execute(early)
        desk.foreign_refund("10", external_id="re_fails", status="failed")
        for change in (VOID, "void_reason = 'y'", "voided_at = NULL, voided_by = NULL, void_reason = NULL"):
            with pytest.raises(errors.IntegrityConstraintViolation, match="becomes void once"):
                connection.execute(f"UPDATE credit_notes SET {change} WHERE seq = 2")  # noqa: S608 - our own
        free = uuid4()
        with Session(desk.engine) as session, session.begin():
            open_documents(session, [(desk.customer_id, free, None)], kind="refund", now=NOW)
        again = refund(
            invoice_id=f"'{desk.invoice_id}'",
            customer_id=f"'{desk.customer_id}'",
            id=f"'{free}'",
            payment_external_id="'inpay_1'",
            amount="1",
            credit_note_id="(SELECT id FROM credit_notes WHERE seq = 2)",
        )
        with pytest.raises(errors.IntegrityConstraintViolation, match="its credit note is void"):
            connection.execute(again)
    desk.check()


@pytest.mark.parametrize("state", ["void", "uncollectible"])
def test_an_open_invoice_does_not_end_before_the_books_gave_it_up(
    company: Company, database_url: str, state: str
) -> None:
    desk = Desk(company)
    with psycopg.connect(plain_url(database_url)) as connection, pytest.raises(errors.IntegrityConstraintViolation):
        connection.execute("UPDATE invoices SET state = %s WHERE id = %s", (state, desk.invoice_id))


def test_an_invoice_is_not_called_paid_without_a_payment(company: Company, database_url: str) -> None:
    desk = Desk(company)
    with psycopg.connect(plain_url(database_url)) as connection, pytest.raises(errors.IntegrityConstraintViolation):
        connection.execute(
            "UPDATE invoices SET state = 'paid', amount_paid = amount_due, paid_at = now() WHERE id = %s",
            [desk.invoice_id],
        )


def at_once(*acts: Callable[[], object]) -> list[object]:
    """Do all of this at the same moment; answers what each returned or which refusal it met."""
    gate = threading.Barrier(len(acts))
    outcomes: list[object] = [None] * len(acts)

    def run(place: int, act: Callable[[], object]) -> None:
        gate.wait(timeout=30)
        try:
            outcomes[place] = act()
        except InvoicingError as refusal:
            outcomes[place] = refusal.code

    threads = [threading.Thread(target=run, args=(place, act)) for place, act in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return outcomes


def test_two_people_who_credit_the_same_invoice_at_once_never_credit_more_than_it_has(company: Company) -> None:
    desk = Desk(company)
    desk.pay("100")
    outcomes = at_once(*(lambda: desk.ask("credit_note", "40", paid_part="refund") for _ in range(4)))
    assert outcomes.count("amount_too_large") == 2
    assert desk.books()["income:adjustments"] == D(-80)
    assert sum(refund.amount for refund in desk.refunds()) == D(80)
    desk.check()


def test_the_same_movement_from_two_clicks_happens_once(company: Company) -> None:
    desk = Desk(company)
    known = uuid4()
    at_once(*(lambda: desk.ask("credit_note", "40", movement_id=known) for _ in range(3)))
    with Session(desk.engine) as session:
        assert session.query(CreditNote).count() == 1
    desk.check()


def test_two_people_who_approve_at_once_begin_one_movement(company: Company) -> None:
    desk = Desk(company, used="200")
    asked = desk.ask("credit_note", "150")
    outcomes = at_once(lambda: desk.approve(asked, actor=SECOND), lambda: desk.approve(asked, actor="third@demo.test"))
    assert outcomes.count("not_awaiting_approval") == 1
    assert desk.invoice().amount_credited == D(150)
    desk.check()


@pytest.mark.parametrize("attempt", range(3))
def test_of_a_void_and_a_payment_at_the_same_moment_one_wins_whole(company: Company, attempt: int) -> None:
    desk = Desk(company)
    asked = desk.ask("void", then="rebill")
    at_once(lambda: desk.done(asked), lambda: desk.pay("100"))
    books = desk.books()
    if desk.invoice().state == "void":
        assert (books["liabilities:unapplied"], books["assets:unbilled"]) == (D(100), D(100))
        assert desk.tasks() == ["paid_after_void"]
    else:
        assert (desk.invoice().state, books.get("liabilities:unapplied")) == ("paid", None)
        assert desk.tasks() == ["movement_refused"]
    desk.check()


def test_a_refund_settled_by_two_events_at_once_leaves_the_books_once(company: Company) -> None:
    desk = Desk(company)
    desk.pay("120")
    desk.ask("refund_unapplied")
    (refund,) = desk.refunds()
    outcomes = at_once(*(lambda: desk.settle(refund, "succeeded", "re_1") for _ in range(4)))
    assert sorted(map(bool, outcomes)) == [False, False, False, True]
    assert desk.books()["assets:stripe"] == D(100)
    desk.check()


def test_a_customer_sees_only_their_own_credit_notes_and_refunds(company: Company, database_url: str) -> None:
    """Row-level security: without a session of the panel, the panel's role reads no row."""
    desk = Desk(company)
    desk.pay("100")
    desk.ask("credit_note", "10", paid_part="refund")
    with psycopg.connect(plain_url(database_url)) as connection:
        connection.execute("SET ROLE billing_panel")
        for table in ("credit_notes", "refunds", "disputes"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)  # noqa: S608 - our own names
        for table in ("movements", "tasks", "payouts"):
            with pytest.raises(errors.InsufficientPrivilege), connection.transaction():
                connection.execute(f"SELECT count(*) FROM {table}")  # noqa: S608

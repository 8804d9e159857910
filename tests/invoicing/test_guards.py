"""Attacks on invoices by plain SQL, as the application's role and as the owner of all tables."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from app.database import create_engine
from invoicing import adjustments
from invoicing.checks import CHECKS
from invoicing.settings import Settings
from tests.fakes.provider import RememberingProvider
from tests.integration.ledger.books import SET_APP_ROLE, plain_url
from tests.invoicing.conftest import Company, at
from tests.processes.services import Databases, TestServers


@dataclass
class Desk:
    """Acme's final invoice for June and draft for July, each with an adjustment; another customer's draft for July."""

    url: str
    connection: psycopg.Connection
    names: dict[str, UUID]

    def run(self, statement: str) -> int:
        return self.connection.execute(statement, self.names).rowcount


def adjusted(company: Company, month: str, *, now: str) -> UUID:
    """Add a charge to acme's draft of this month; answers its id."""
    draft = company.invoice("acme", month).invoice
    with Session(company.engine) as session, session.begin():
        return adjustments.add_charge(
            session,
            customer_id=draft.customer_id,
            invoice_id=draft.id,
            expected_version=draft.version,
            amount=Decimal(1),
            description="Support",
            reason="Asked for",
            actor="agent@demo.test",
            settings=company.settings,
            now=at(now),
        ).id


@pytest.fixture(scope="module", params=["app", "owner"])
def prepared(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Desk]:
    name = databases.clone()
    url = databases.url(name)
    engine = create_engine(url)
    company = Company(engine, RememberingProvider(), Settings())
    names = {"acme": company.customer("acme"), "other": company.customer("other")}
    company.use("acme", "2025-06-03", "20")
    company.use("acme", "2025-06-03", "5", item="volume")
    company.close("2025-07-01")
    names["spent"] = adjusted(company, "2025-06", now="2025-07-01")
    names["final"] = company.finalize("acme", "2025-06", on="2025-07-02").invoice.id
    company.use("acme", "2025-07-03", "7")
    company.use("other", "2025-07-03", "7")
    company.close("2025-08-01")
    names["added"] = adjusted(company, "2025-07", now="2025-08-01")
    names["draft"] = company.invoice("acme", "2025-07").invoice.id
    names["foreign"] = company.invoice("other", "2025-07").invoice.id
    with psycopg.connect(plain_url(url), autocommit=True) as connection:
        if request.param == "app":
            connection.execute(SET_APP_ROLE)
        yield Desk(url, connection, names)
    company.check()
    engine.dispose()
    databases.drop(name)


@pytest.fixture
def desk(prepared: Desk) -> Iterator[Desk]:
    """Each attack is rolled back; the books and the invoices are checked after the last one."""
    with prepared.connection.transaction(force_rollback=True):
        yield prepared


def line(invoice: str, *, customer: str = "%(acme)s", adjustment: str = "NULL", position: int = 90) -> str:
    return (
        f"(CAST({customer} AS uuid), CAST({invoice} AS uuid), {position}, 'income:usage', 'x-{position}', "
        f"timestamptz '2025-07-01Z', 'A gift', 1, -5, CAST({adjustment} AS uuid))"
    )


def lines(*rows: str) -> str:
    head = """INSERT INTO invoice_lines (customer_id, invoice_id, position, contra_account, item, usage_period_start,
                                         description, quantity, amount, adjustment_id) VALUES """
    return head + ", ".join(rows)


def invoice(**changes: str) -> str:
    """A draft of another kind beside the one for acme's July, about a document of its own."""
    columns = {
        "customer_id": "%(acme)s",
        "id": "gen_random_uuid()",
        "kind": "'top_up'",
        "period_start": "timestamptz '2025-07-01Z'",
        "period_end": "timestamptz '2025-08-01Z'",
        "currency": "'USD'",
        "compiled_at": "now()",
        "finalize_after": "now()",
        **changes,
    }
    document = """WITH document AS (INSERT INTO ledger_documents (customer_id, id, kind, created_at)
                  VALUES (%(acme)s, gen_random_uuid(), 'invoice', now()) RETURNING id) """
    names, values = ", ".join(columns), ", ".join(columns.values())
    return document + f"INSERT INTO invoices ({names}) SELECT {values} FROM document"  # noqa: S608 - ours


DOCUMENTED = {"id": "document.id"}

ACCEPTED = {
    "lines of a draft": lines(line("%(draft)s"), line("%(draft)s", position=91)),
    "a line of its adjustment": lines(line("%(draft)s", adjustment="%(added)s")),
    "a line changed in a draft": "UPDATE invoice_lines SET amount = 1 WHERE invoice_id = %(draft)s",
    "a line removed from a draft": "DELETE FROM invoice_lines WHERE invoice_id = %(draft)s",
    "a draft": invoice(**DOCUMENTED),
}


@pytest.mark.parametrize("statement", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_the_attacks_differ_from_is_accepted(desk: Desk, statement: str) -> None:
    assert desk.run(statement) > 0


FORGED = {
    "a line in a final invoice": lines(line("%(final)s")),
    "a line in a final invoice, among good ones": lines(line("%(draft)s"), line("%(final)s", position=91)),
    "a line of no invoice": lines(line("gen_random_uuid()")),
    "a line of somebody else's invoice": lines(line("%(foreign)s")),
    "a line of an unknown customer": lines(line("%(draft)s", customer="gen_random_uuid()")),
    "a line of no adjustment": lines(line("%(draft)s", adjustment="gen_random_uuid()")),
    "a line of another invoice's adjustment": lines(line("%(draft)s", adjustment="%(spent)s")),
    "a copied final line": "INSERT INTO invoice_lines SELECT (jsonb_populate_record(l, jsonb_build_object("
    "'id', gen_random_uuid(), 'item', 'copy'))).* FROM invoice_lines l WHERE invoice_id = %(final)s "
    "AND item = 'volume'",
    "a final line by upsert": "INSERT INTO invoice_lines SELECT * FROM invoice_lines WHERE invoice_id = %(final)s "
    "ON CONFLICT (customer_id, invoice_id, id) DO UPDATE SET amount = 0",
    "a final line changed": "UPDATE invoice_lines SET amount = 0 WHERE invoice_id = %(final)s",
    "a final line removed": "DELETE FROM invoice_lines WHERE invoice_id = %(final)s",
    "a line moved out of a final invoice": "UPDATE invoice_lines SET invoice_id = %(draft)s, position = position + 50 "
    "WHERE invoice_id = %(final)s AND adjustment_id IS NULL",
    "a line moved into a final invoice": "UPDATE invoice_lines SET invoice_id = %(final)s, item = 'moved' "
    "WHERE invoice_id = %(draft)s AND adjustment_id IS NULL",
    "a line given to somebody else": "UPDATE invoice_lines SET customer_id = %(other)s, invoice_id = %(foreign)s, "
    "item = 'moved' WHERE invoice_id = %(draft)s",
    "a line with another id": "UPDATE invoice_lines SET id = gen_random_uuid() WHERE invoice_id = %(draft)s",
    "a line freed of its adjustment": "UPDATE invoice_lines SET adjustment_id = NULL WHERE adjustment_id = %(added)s",
    "an adjustment moved out of a final invoice": "UPDATE adjustments SET invoice_id = %(draft)s "
    "WHERE invoice_id = %(final)s",
    "an adjustment with another id": "UPDATE adjustments SET id = gen_random_uuid() WHERE invoice_id = %(draft)s",
    "an invoice born final": invoice(
        **DOCUMENTED, state="'final'", number="'GIFT-0001'", number_seq="7", provider="'stripe'", exact_total="5",
        total="5", credits_applied="0", amount_due="5", finalized_at="now()",
    ),
    "an invoice born with a number": invoice(
        **DOCUMENTED, number="'GIFT-0001'", number_seq="7", provider="'stripe'",
    ),
    "an invoice born paid": invoice(**DOCUMENTED, amount_paid="5"),
    "an invoice about no document": invoice(),
    "an invoice about somebody else's document": invoice(id="CAST(%(foreign)s AS uuid)"),
    "an invoice of an unknown customer": invoice(**DOCUMENTED, customer_id="gen_random_uuid()"),
    "an invoice of no period": invoice(**DOCUMENTED, period_start="timestamptz '2025-07-02Z'"),
    "a second invoice of the period": invoice(**DOCUMENTED, kind="'cycle'", generation="2"),
    "a number given out twice": "UPDATE invoices SET number = 'TWICE-1', provider = 'stripe', number_seq = ("
    "SELECT number_seq FROM invoices WHERE id = %(final)s) WHERE id = %(draft)s",
    "an invoice for another period": "UPDATE invoices SET period_start = period_start - interval '1 month'",
    "an adjustment that its author approves": "UPDATE adjustments SET needs_approval = true, approved_by = actor, "
    "approved_at = now() WHERE id = %(added)s",
    "history of no invoice": "INSERT INTO invoice_history (customer_id, invoice_id, at, actor, action) "
    "VALUES (%(acme)s, gen_random_uuid(), now(), 'me', 'paid')",
}  # fmt: skip


@pytest.mark.parametrize("statement", FORGED.values(), ids=FORGED.keys())
def test_what_is_forged_is_refused(desk: Desk, statement: str) -> None:
    with pytest.raises(errors.IntegrityError):
        desk.run(statement)


def test_temporary_tables_do_not_take_the_place_of_ours(desk: Desk) -> None:
    """Otherwise the guards would ask the attacker's own tables whether an invoice is a draft."""
    desk.run("CREATE TEMP TABLE invoices AS SELECT * FROM public.invoices")
    desk.run("UPDATE pg_temp.invoices SET state = 'draft'")
    for statement in (
        lines(line("%(final)s")),
        "UPDATE invoice_lines SET amount = 0 WHERE invoice_id = %(final)s",
        "DELETE FROM invoice_lines WHERE invoice_id = %(final)s",
    ):
        with pytest.raises(errors.IntegrityConstraintViolation, match="is no draft"), desk.connection.transaction():
            desk.run(statement)


FINALIZED = """UPDATE invoices SET state = 'final', number = 'X-0002', number_seq = 2, provider = 'stripe',
    exact_total = 8, total = 8, credits_applied = 0, amount_due = 8, finalized_at = now() WHERE id = %(draft)s"""


def test_a_held_draft_is_not_made_final(desk: Desk) -> None:
    desk.run("UPDATE invoices SET held_at = now(), held_by = 'x', hold_reason = 'x' WHERE id = %(draft)s")
    with pytest.raises(errors.IntegrityConstraintViolation, match="it is held"):
        desk.run(FINALIZED)


def test_an_approval_is_not_looked_for_in_a_temporary_table(desk: Desk) -> None:
    desk.run("UPDATE adjustments SET needs_approval = true WHERE id = %(added)s")
    desk.run("CREATE TEMP TABLE adjustments (LIKE public.adjustments)")
    with pytest.raises(errors.IntegrityConstraintViolation, match="awaits approval"):
        desk.run(FINALIZED)


TAMPERING = {
    "an invoice without a customer": ("DELETE FROM customers WHERE customer_id = %(acme)s", "every invoice has its"),
    "an invoice without a document": ("DELETE FROM ledger_documents WHERE id = %(draft)s", "every invoice has its"),
    "an invoice of no period": (
        "UPDATE invoices SET period_start = period_start + interval '1 day' WHERE id = %(draft)s",
        "every invoice has its",
    ),
    "lines without an invoice": ("DELETE FROM invoices WHERE id = %(draft)s", "every line has its"),
    "a line without its adjustment": ("DELETE FROM adjustments WHERE id = %(added)s", "every line has its"),
}


@pytest.mark.parametrize("prepared", ["owner"], indirect=True)
@pytest.mark.parametrize(("statement", "check"), TAMPERING.values(), ids=TAMPERING.keys())
def test_what_a_superuser_removes_is_named_by_a_check(
    prepared: Desk, servers: TestServers, statement: str, check: str
) -> None:
    """No trigger stops a superuser's hand."""
    url = make_url(servers.admin_url).set(database=make_url(prepared.url).database)
    with psycopg.connect(plain_url(url.render_as_string(hide_password=False))) as superuser:
        superuser.execute("SET session_replication_role = replica")
        assert superuser.execute(statement, prepared.names).rowcount > 0
        broken = [name for name, query in CHECKS.items() if superuser.execute(query.encode()).fetchall()]
        superuser.rollback()
    assert [name for name in broken if name.startswith(check)], broken


@pytest.mark.parametrize(
    "attack",
    [lines(line("%(draft)s")), "UPDATE invoice_lines SET amount = 0 WHERE invoice_id = %(draft)s"],
    ids=["new line", "changed line"],
)
def test_a_line_does_not_slip_into_an_invoice_that_is_being_finalized(
    company: Company, database_url: str, attack: str
) -> None:
    """The finalizing transaction has read the lines already; whoever writes one now waits, and finds no draft."""
    names = {"acme": company.customer("acme")}
    company.use("acme", "2025-07-03", "7")
    company.close("2025-08-01")
    names["draft"] = company.invoice("acme", "2025-07").invoice.id
    failed: list[psycopg.Error] = []
    with psycopg.connect(plain_url(database_url)) as finalizing, psycopg.connect(plain_url(database_url)) as writing:
        finalizing.execute("UPDATE invoices SET state = 'carried_forward' WHERE id = %(draft)s", names)

        def write() -> None:
            try:
                writing.execute(attack, names)
            except psycopg.Error as error:
                failed.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        thread.join(timeout=0.5)
        assert thread.is_alive(), "the line did not wait for the finalization"
        finalizing.commit()
        thread.join(timeout=10)
        writing.rollback()
    assert [type(error) for error in failed] == [errors.IntegrityConstraintViolation]
